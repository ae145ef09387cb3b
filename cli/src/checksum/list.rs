//! Lists of checksums, as `sha256sum` and `sha512sum` write them (GNU), or `shasum --tag` and the BSDs do.
//!
//! ```text
//! <digits>  <name>          GNU; ` *` instead of two blanks for "binary", `\` before it all if the name has escapes
//! SHA512 (<name>) = <digits>
//! ```
//!
//! Other lines, such as comments, signatures around the list and other algorithms, say nothing here.

use super::{Algorithm, Checksum};

/// Why a list does not tell a file's checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    /// No line for it.
    #[error("there is no SHA-256 or SHA-512 checksum of '{0}' in it")]
    Missing(String),
    /// Lines that contradict each other.
    #[error("it has several {1} checksums of '{0}'")]
    Ambiguous(String, Algorithm),
}

/// The strongest checksum that a list has for the file of this name, wherever the list says that it lies.
pub(crate) fn find(list: &str, file_name: &str) -> Result<Checksum, ListError> {
    let mut found: Option<Checksum> = None;
    for line in list.lines() {
        let Some((checksum, name)) = gnu(line).or_else(|| bsd(line)) else {
            continue;
        };
        if name.rsplit('/').next() != Some(file_name) {
            continue;
        }
        match &found {
            Some(before) if before.algorithm > checksum.algorithm => {}
            Some(before) if before.algorithm == checksum.algorithm && *before != checksum => {
                return Err(ListError::Ambiguous(
                    file_name.to_owned(),
                    checksum.algorithm,
                ));
            }
            _ => found = Some(checksum),
        }
    }
    found.ok_or_else(|| ListError::Missing(file_name.to_owned()))
}

fn gnu(line: &str) -> Option<(Checksum, String)> {
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (digits, rest) = line.split_once(' ')?;
    let name = rest.strip_prefix([' ', '*'])?;
    let checksum = Checksum::parse(Algorithm::of_digits(digits.len())?, digits).ok()?;
    let name = if escaped { unescape(name) } else { name.into() };
    Some((checksum, name))
}

fn bsd(line: &str) -> Option<(Checksum, String)> {
    let (tag, rest) = line.split_once(" (")?;
    // The name may have anything in it, also what follows it.
    let (name, digits) = rest.rsplit_once(") = ")?;
    let algorithm = match tag {
        "SHA256" => Algorithm::Sha256,
        "SHA512" => Algorithm::Sha512,
        _ => return None,
    };
    let checksum = Checksum::parse(algorithm, digits.trim_end()).ok()?;
    Some((checksum, name.to_owned()))
}

/// What GNU's tools write `\`, line feed and carriage return in a name as.
fn unescape(name: &str) -> String {
    let mut out = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                other => other.unwrap_or('\\'),
            },
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(digit: &str, algorithm: Algorithm) -> String {
        digit.repeat(algorithm.bytes() * 2)
    }

    #[test]
    fn both_styles_are_read_and_the_rest_is_passed_over() {
        let a = sum("a", Algorithm::Sha512);
        let b = sum("b", Algorithm::Sha256);
        let c = sum("c", Algorithm::Sha256);
        let list = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\n# disk.raw: 5 bytes\n{a}  other.raw\n{b} *disk.raw\n\
             d41d8cd98f00b204e9800998ecf8427e  disk.raw\nSHA256 (a) = b (disk (1).xz) = {c}\n\
             SHA256 (disk (1).xz) = {c}\nMD5 (disk.raw) = 00\n{a}  sub/folder.raw\r\n"
        );
        assert_eq!(find(&list, "disk.raw").unwrap().to_string(), b);
        assert_eq!(find(&list, "other.raw").unwrap().to_string(), a);
        assert_eq!(find(&list, "disk (1).xz").unwrap().to_string(), c);
        assert_eq!(find(&list, "folder.raw").unwrap().to_string(), a);
        assert_eq!(
            find(&list, "none"),
            Err(ListError::Missing("none".to_owned()))
        );
        assert_eq!(find("", "disk"), Err(ListError::Missing("disk".to_owned())));
    }

    #[test]
    fn the_stronger_one_counts_whatever_the_order() {
        let (weak, strong) = (sum("1", Algorithm::Sha256), sum("2", Algorithm::Sha512));
        for list in [
            format!("{weak}  d\n{strong}  d\n"),
            format!("{strong}  d\n{weak}  d\n"),
        ] {
            assert_eq!(find(&list, "d").unwrap().to_string(), strong);
        }
    }

    #[test]
    fn a_contradiction_is_none_of_ours_to_settle() {
        let (one, two) = (sum("1", Algorithm::Sha256), sum("2", Algorithm::Sha256));
        assert!(find(&format!("{one}  d\n{one}  ./d\n"), "d").is_ok());
        assert_eq!(
            find(&format!("{one}  d\n{two}  old/d\n"), "d"),
            Err(ListError::Ambiguous("d".to_owned(), Algorithm::Sha256))
        );
    }

    #[test]
    fn escaped_names_are_the_names_of_files() {
        let one = sum("1", Algorithm::Sha256);
        let list = format!("\\{one}  a\\\\b\\nc\n");
        assert!(find(&list, "a\\b\nc").is_ok());
    }
}
