//! Images.

use super::{Look, Show};
use crate::{
    output::table::{Table, cell, number},
    quantity::{Bytes, rough_duration},
};
use fvm_vmm::api::ImageList;

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

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{ImageReport, REPORT_VERSION};

    #[test]
    fn the_list_has_a_line_for_each_image() {
        let list = ImageList {
            version: REPORT_VERSION,
            images: vec![ImageReport {
                version: REPORT_VERSION,
                name: "debian".parse().unwrap(),
                size_bytes: 2 << 30,
                data_bytes: 61 << 20,
                digest: "blake3:00".to_owned(),
                owner_uid: 0,
                imported_at_s: 1_799_999_995,
                vms: 3,
            }],
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
