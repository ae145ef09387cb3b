//! Templates that root puts where everybody finds them by name, as files of their own in `/etc/fvm/templates`.
//!
//! A VM keeps the template that it was made with, so neither publishing nor taking back changes one.

use super::{
    Manager,
    error::{Result, file},
    templates, whole_file,
};
use crate::{
    api::{
        ApiError, ErrorKind, LookAtTemplate, PublishTemplate, PublishedTemplate, REPORT_VERSION,
    },
    manager::Caller,
};
use std::{fs, io};

impl Manager {
    /// Publishes a template, in the place of one of this name that root published before.
    ///
    /// # Errors
    /// When the caller is not root, the name is taken by a shipped template, or no VM could be made of it.
    pub fn publish_template(
        &self,
        caller: Caller,
        name: &str,
        request: &PublishTemplate,
    ) -> Result<PublishedTemplate> {
        self.check_publisher(caller, name)?;
        if !request.xml.contains('<') {
            return Err(ApiError::new(ErrorKind::Usage, "this is no domain XML"));
        }
        let look = LookAtTemplate {
            template: request.xml.clone(),
            qemu: None,
        };
        self.check_template(caller, &look)?;
        let path = templates::published(&self.paths, name);
        let replaced = path.exists();
        whole_file::write(&path, &request.xml)?;
        Ok(PublishedTemplate {
            version: REPORT_VERSION,
            name: name.to_owned(),
            replaced,
            published: true,
        })
    }

    /// Takes a published template back.
    ///
    /// # Errors
    /// When the caller is not root, or there is no published template of this name.
    pub fn unpublish_template(&self, caller: Caller, name: &str) -> Result<PublishedTemplate> {
        self.check_publisher(caller, name)?;
        let path = templates::published(&self.paths, name);
        fs::remove_file(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ApiError::new(
                ErrorKind::NotFound,
                format!("no template '{name}' is published"),
            )
            .hint("`fvm template list` shows those that are"),
            _ => file("removing", &path, &error),
        })?;
        Ok(PublishedTemplate {
            version: REPORT_VERSION,
            name: name.to_owned(),
            replaced: false,
            published: false,
        })
    }

    fn check_publisher(&self, caller: Caller, name: &str) -> Result<()> {
        if !caller.is_root() {
            return Err(ApiError::new(
                ErrorKind::Refused,
                "only root may publish templates and take them back",
            )
            .hint("a template of your own is given as a file: --template ./mine.xml"));
        }
        // The API has paths of these names.
        let is_free = !["check", "arguments", "explain"].contains(&name);
        if !templates::is_name(name) || !is_free {
            let shown = name.escape_debug().take(64).collect::<String>();
            return Err(ApiError::new(
                ErrorKind::Usage,
                format!("no template can have the name '{shown}'"),
            )
            .hint(
                "a name has up to 64 letters, digits, - and _, and begins with a letter or digit",
            ));
        }
        if templates::shipped(&self.paths, name).exists() {
            return Err(ApiError::new(
                ErrorKind::Refused,
                format!("the template '{name}' comes with fvm"),
            )
            .hint("give yours another name"));
        }
        Ok(())
    }
}
