//! Looking at templates and at what fvm made of them: nothing is made or changed here.
//!
//! What is shown is what a start would do: the same model, the same layout, the same descriptors
//! with the same numbers, for the first VM of this host.

use super::{
    Manager, agent, create,
    error::Result,
    host::{Host, check_cpus},
    kept, launch, templates,
};
use crate::{
    api::{
        ApiError, ElementReport, ErrorKind, LookAtTemplate, QemuOption, QemuVersion,
        REPORT_VERSION, TemplateArguments, TemplateCheck, TemplateExplanation, TemplateList,
        TemplateSummary, TemplateText, TemplateWarning, VmNumber, VmXml,
    },
    domain::{self, DiskSource, Domain, ElementId, Warning},
    manager::Caller,
    qemu::{
        self, Assignment, CommandLine, DiskBacking, FdTable, FirmwareBacking, NicBacking,
        SocketBacking, firmware,
        probe::{Capabilities, Version},
    },
};
use std::{collections::BTreeMap, fs::File, os::fd::OwnedFd, path::Path};

/// A template as the first VM of this host would have it.
struct Example {
    xml: String,
    vm: VmNumber,
    domain: Domain,
    warnings: Vec<Warning>,
    qemu: Capabilities,
    line: CommandLine,
}

impl Manager {
    /// The templates that everybody finds by name.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn template_list(&self) -> Result<TemplateList> {
        let summary = |name: String| {
            let xml = templates::resolve(&self.paths, &name)?;
            Ok(TemplateSummary {
                published: !templates::shipped(&self.paths, &name).exists(),
                summary: templates::summary(&xml),
                name,
            })
        };
        let names = templates::names(&self.paths).into_iter();
        Ok(TemplateList {
            version: REPORT_VERSION,
            templates: names.map(summary).collect::<Result<_>>()?,
        })
    }

    /// A template that everybody finds by name.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn template(&self, name: &str) -> Result<TemplateText> {
        Ok(TemplateText {
            version: REPORT_VERSION,
            xml: templates::named(&self.paths, name)?,
            name: name.to_owned(),
        })
    }

    /// Whether VMs can be made of a template, and what they would be.
    ///
    /// # Errors
    /// When it is refused, naming the place; or the host is not set up.
    pub fn check_template(
        &self,
        caller: Caller,
        request: &LookAtTemplate,
    ) -> Result<TemplateCheck> {
        let Example {
            domain,
            warnings,
            qemu,
            ..
        } = self.example(caller, request)?;
        let machine = qemu.machine(&domain.os.machine);
        let disks = domain.devices.disks.iter();
        Ok(TemplateCheck {
            version: REPORT_VERSION,
            qemu: qemu.version.to_string(),
            machine: machine.map_or_else(String::new, |machine| machine.name.clone()),
            uefi: domain.os.firmware.is_uefi(),
            memory_mib: domain.memory_mib(),
            cpus: domain.vcpus(),
            disks: disks.map(|disk| disk.target.clone()).collect(),
            nics: domain.devices.interfaces.len() as u32,
            warnings: told(warnings),
        })
    }

    /// The arguments that QEMU would get.
    ///
    /// # Errors
    /// When the template is refused, naming the place; or the host is not set up.
    pub fn template_arguments(
        &self,
        caller: Caller,
        request: &LookAtTemplate,
    ) -> Result<TemplateArguments> {
        let example = self.example(caller, request)?;
        Ok(TemplateArguments {
            version: REPORT_VERSION,
            qemu: example.qemu.version.to_string(),
            vm: example.vm,
            arguments: example.line.into_vector(),
            warnings: told(example.warnings),
        })
    }

    /// What became of every element of a template.
    ///
    /// # Errors
    /// When the template is refused, naming the place; or the host is not set up.
    pub fn explain_template(
        &self,
        caller: Caller,
        request: &LookAtTemplate,
    ) -> Result<TemplateExplanation> {
        let example = self.example(caller, request)?;
        let elements =
            domain::elements(&example.xml).map_err(|error| templates::refusal(&error))?;
        Ok(explanation(&example, elements))
    }

    /// A VM's domain XML with every address, name and path filled in.
    ///
    /// # Errors
    /// When there is no such VM, or the host is not set up.
    pub fn vm_xml(&self, number: VmNumber) -> Result<VmXml> {
        let host = self.host()?;
        let row = self.vm_row(number)?;
        let domain = kept::domain(&host, &row)?;
        let macs: Vec<String> = row.nics.iter().map(|nic| nic.mac.clone()).collect();
        let chosen = qemu::Chosen {
            domain: &domain,
            additions: &kept::additions(&row)?,
            uuid: &row.uuid,
            machine: row.machine.as_deref(),
            macs: &macs,
            layout: &kept::layout(&row, &domain)?,
        };
        let macros = kept::macros(&host, &row)?;
        let xml = qemu::completed_xml(&row.template, &macros, &chosen)
            .map_err(|error| templates::refusal(&error))?;
        Ok(VmXml {
            version: REPORT_VERSION,
            vm: number,
            xml,
        })
    }

    fn example(&self, caller: Caller, request: &LookAtTemplate) -> Result<Example> {
        let xml = templates::resolve(&self.paths, &request.template)?;
        let host = self.host()?;
        let vm = VmNumber::new(host.config.first_number);
        let name = format!("fvm-{EXAMPLE_IMAGE}-{vm}");
        let number = host.host_number(vm)?;
        let network = &host.network.bridge;
        let macros = templates::macros(&name, number, EXAMPLE_IMAGE, network);
        templates::permit(caller, &request.template, &name, &macros, network)?;
        let (mut domain, warnings) = templates::load(&xml, number, &name, EXAMPLE_IMAGE, network)?;
        templates::hold_on_write_errors(&mut domain, &name);
        let arch = domain.os.arch;
        let qemu = match request.qemu {
            Some(version) => {
                let (major, minor) = version.parts();
                Capabilities::typical(arch, Version { major, minor })
            }
            None => self.qemu.capabilities(arch).map_err(|error| {
                let oldest = QemuVersion::OLDEST;
                error.hint(format!("or say which QEMU: `--qemu {oldest}`"))
            })?,
        };
        if request.qemu.is_none() {
            check_cpus(arch, domain.vcpus.max, self.most_cpus())?;
        }
        let assignment =
            self.example_assignment(&host, vm, name, &domain, &qemu, request.qemu.is_some())?;
        let line = qemu::command_line(&domain, &assignment)
            .map_err(|error| ApiError::from_error(ErrorKind::Usage, &error))?;
        Ok(Example {
            xml,
            vm,
            domain,
            warnings,
            qemu,
            line,
        })
    }

    /// What a start would assign, with `/dev/null` behind every descriptor; the firmware need not be on
    /// this host if the QEMU is `elsewhere`.
    fn example_assignment(
        &self,
        host: &Host,
        vm: VmNumber,
        name: String,
        domain: &Domain,
        qemu: &Capabilities,
        elsewhere: bool,
    ) -> Result<Assignment> {
        templates::check_disks(domain, &name)?;
        let paths = self.paths.vm(vm);
        let mut fds = FdTable::new();
        let disks = domain.devices.disks.iter();
        let disks = disks
            .filter(|disk| disk.source != DiskSource::Empty)
            .map(|disk| {
                let path = fds.pass_set(vec![nothing()?, nothing()?]);
                let backing = DiskBacking {
                    path,
                    is_block_device: true,
                };
                Ok((disk.target.clone(), backing))
            })
            .collect::<Result<_>>()?;
        let nics = create::nics(host, domain, vm)?
            .into_iter()
            .map(|nic| {
                Ok(NicBacking {
                    mac: nic.mac,
                    tap_fds: vec![fds.pass(nothing()?)],
                    vhost_fds: Vec::new(),
                })
            })
            .collect::<Result<_>>()?;
        let monitors = vec![fds.pass(nothing()?), fds.pass(nothing()?)];
        let mut sockets = BTreeMap::new();
        if let Some(channel) = agent::channel(domain) {
            let fd = fds.pass(nothing()?);
            let socket = SocketBacking { fd, log_path: None };
            sockets.insert(channel.alias.clone(), socket);
        }
        if let Some(tpm) = &domain.devices.tpm {
            let fd = fds.pass(nothing()?);
            let socket = SocketBacking { fd, log_path: None };
            sockets.insert(tpm.alias.clone(), socket);
        }
        for alias in launch::served(domain) {
            let log_path = Some(launch::text(&paths.console_log())?);
            let fd = fds.pass(nothing()?);
            sockets.insert(alias.to_owned(), SocketBacking { fd, log_path });
        }
        let files = if elsewhere {
            firmware::usual
        } else {
            firmware::find
        };
        let files = files(&domain.os)
            .map_err(|error| ApiError::from_error(ErrorKind::HostNotAble, &error))?;
        let firmware = match files {
            None => None,
            Some(files) => Some(FirmwareBacking {
                code: launch::text(&files.code)?,
                vars: launch::text(&paths.nvram())?,
            }),
        };
        Ok(Assignment {
            name,
            uuid: uuid::Uuid::nil().to_string(),
            accel: self.accelerator(domain.os.arch).0,
            qemu: qemu.clone(),
            machine: None,
            layout: kept::assigned(domain)?,
            disks,
            nics,
            sockets,
            monitors,
            firmware,
            fd_sets: fds.sets().to_vec(),
            run_directory: paths.run.clone(),
            start_paused: true,
            vsock_cid: None,
            vsock_fd: None,
        })
    }
}

/// The image that the example is made of; there need not be one.
const EXAMPLE_IMAGE: &str = "example";

fn nothing() -> Result<OwnedFd> {
    let path = Path::new("/dev/null");
    let file = File::open(path).map_err(|error| super::error::file("opening", path, &error))?;
    Ok(file.into())
}

fn told(warnings: Vec<Warning>) -> Vec<TemplateWarning> {
    let told = |warning: Warning| TemplateWarning {
        path: warning.path,
        line: warning.line,
        message: warning.message,
    };
    warnings.into_iter().map(told).collect()
}

fn explanation(example: &Example, elements: Vec<domain::TemplateElement>) -> TemplateExplanation {
    let arguments = &example.line.arguments;
    let remark = |id: ElementId, path: &str| {
        let warned = example.warnings.iter().find(|w| w.path == path);
        let ignored = example.domain.ignored.contains(&id);
        let said = example.line.remarks.get(&id).copied();
        warned
            .map(|warning| warning.message.clone())
            .or(said.map(str::to_owned))
            .or(ignored.then(|| "changes nothing in the guest".to_owned()))
    };
    let report = |(number, element): (u32, domain::TemplateElement)| {
        let id = ElementId(number);
        let of_it = |(_, argument): &(usize, &qemu::Argument)| argument.origins.contains(&id);
        let options = arguments.iter().enumerate().filter(of_it);
        ElementReport {
            options: options.map(|(position, _)| position).collect(),
            remark: remark(id, &element.path),
            path: element.path,
            line: element.line,
            depth: element.depth as u32,
            text: element.text,
        }
    };
    let nobody = |(_, argument): &(usize, &qemu::Argument)| argument.origins.is_empty();
    let always = arguments.iter().enumerate().filter(nobody);
    TemplateExplanation {
        version: REPORT_VERSION,
        qemu: example.qemu.version.to_string(),
        options: arguments
            .iter()
            .map(|argument| QemuOption {
                option: argument.option.clone(),
                value: argument.value.clone(),
            })
            .collect(),
        elements: (0u32..).zip(elements).map(report).collect(),
        always: always.map(|(position, _)| position).collect(),
    }
}
