//! Images.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Cell, Table, cell, number},
    },
    quantity::{Bytes, rough_duration},
};
use fvm_vmm::api::{ImageList, ImageReport};

impl Show for ImageList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new(["IMAGE", "DISK", "DATA", "VMS", "OWNER", "IMPORTED"]);
        for image in &self.images {
            table.row([
                cell(image.name.as_str()),
                cell(Bytes(image.size_bytes).to_string()).right(),
                cell(Bytes(image.data_bytes).to_string()).right(),
                number(image.vms),
                cell(look.owner(image.owner_uid)),
                cell(format!(
                    "{} ago",
                    rough_duration(look.since(image.imported_at_s))
                )),
            ]);
        }
        table.show(look.palette)
    }
}

impl Show for ImageReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::plain();
        let mut line = |name: &str, value: Cell| table.row([cell(name).tone(Tone::Dim), value]);
        let ago = |then_s| cell(format!("{} ago", rough_duration(look.since(then_s))));
        line("image", cell(self.name.as_str()));
        line("disk", cell(Bytes(self.size_bytes).to_string()));
        line("data", cell(Bytes(self.data_bytes).to_string()));
        line(
            "digest",
            match &self.digest {
                Some(digest) => cell(digest),
                None => cell("not known since it may have been changed").tone(Tone::Warn),
            },
        );
        if self.has_base_vm {
            line(
                "base VM",
                cell("edits it: `fvm info base`").tone(Tone::Warn),
            );
        }
        line("VMs", cell(self.vms.to_string()));
        line("owner", cell(look.owner(self.owner_uid)));
        line("imported", ago(self.imported_at_s));
        if let Some(changed_at_s) = self.changed_at_s {
            line("changed", ago(changed_at_s));
        }
        table.show(look.palette)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::REPORT_VERSION;

    fn image() -> ImageReport {
        ImageReport {
            version: REPORT_VERSION,
            name: "debian".parse().unwrap(),
            size_bytes: 2 << 30,
            data_bytes: 61 << 20,
            digest: Some("blake3:00".to_owned()),
            owner_uid: 0,
            imported_at_s: 1_799_999_995,
            changed_at_s: None,
            vms: 3,
            has_base_vm: false,
        }
    }

    #[test]
    fn an_image_is_shown_with_what_is_known_of_it() {
        assert_eq!(
            image().show(&Look::fixed()),
            "\
image     debian
disk      2.0 GiB
data      61 MiB
digest    blake3:00
VMs       3
owner     root
imported  5s ago
"
        );
        let edited = ImageReport {
            digest: None,
            has_base_vm: true,
            changed_at_s: Some(1_799_999_998),
            ..image()
        };
        let text = edited.show(&Look::fixed());
        for words in ["not known", "edits it", "changed   2s ago"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn the_list_has_a_line_for_each_image() {
        let list = ImageList {
            version: REPORT_VERSION,
            images: vec![image()],
        };
        assert_eq!(
            list.show(&Look::fixed()),
            "\
IMAGE      DISK    DATA  VMS  OWNER  IMPORTED
debian  2.0 GiB  61 MiB    3  root   5s ago
"
        );
    }
}
