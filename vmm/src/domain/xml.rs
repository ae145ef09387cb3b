//! The XML reader: hostile text to a tree of elements with line numbers.
//!
//! It knows elements, attributes, text, CDATA and comments. A document type, an entity beyond the
//! five of XML, and anything past the bounds below is refused before it costs time or memory.

use super::error::{Result, TemplateError};
use super::origin::ElementId;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// The longest template, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting of elements.
pub const MAX_DEPTH: usize = 32;
/// The most elements in one template.
pub const MAX_ELEMENTS: u32 = 8192;
/// The most attributes of one element.
pub const MAX_ATTRIBUTES: usize = 64;

/// An element with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// The name, with its prefix if it has one.
    pub(crate) name: String,
    /// Names and values, in their order; no name comes twice.
    pub(crate) attributes: Vec<(String, String)>,
    /// The elements directly in it.
    pub(crate) children: Vec<Element>,
    /// All text directly in it, joined.
    pub(crate) text: String,
    /// The line of its start tag, counted from one.
    pub(crate) line: u32,
    /// Its number in the document.
    pub(crate) id: ElementId,
}

impl Element {
    /// The path of a child of this element, whose own path is `path`: with a position if it has
    /// siblings of its name.
    pub(crate) fn path_of(&self, path: &str, child: &Element) -> String {
        let mut same = self.children.iter().filter(|c| c.name == child.name);
        let position = same
            .position(|c| std::ptr::eq(c, child))
            .map_or(0, |n| n + 1);
        if position > 1 || same.next().is_some() {
            format!("{path}/{}[{position}]", child.name)
        } else {
            format!("{path}/{}", child.name)
        }
    }
}

/// Reads a whole document and returns its root element.
pub(crate) fn parse(text: &str) -> Result<Element> {
    if text.len() > MAX_BYTES {
        return Err(refuse(
            "",
            1,
            format!(
                "the template has {} bytes, more than {MAX_BYTES}",
                text.len()
            ),
        ));
    }
    Parser::new(text).run()
}

fn refuse(path: &str, line: u32, message: impl Into<String>) -> TemplateError {
    TemplateError {
        path: if path.is_empty() { "/" } else { path }.to_owned(),
        line,
        message: message.into(),
        hint: None,
    }
}

struct Parser<'t> {
    text: &'t str,
    reader: Reader<&'t [u8]>,
    /// Bytes of the text whose lines are counted, and the line they end in.
    counted: (usize, u32),
    /// The elements that are open, the outermost first.
    open: Vec<Element>,
    root: Option<Element>,
    elements: u32,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.check_comments = false;
        config.check_end_names = true;
        config.allow_unmatched_ends = false;
        config.allow_dangling_amp = false;
        Self {
            text,
            reader,
            counted: (0, 1),
            open: Vec::new(),
            root: None,
            elements: 0,
        }
    }

    fn run(mut self) -> Result<Element> {
        loop {
            let line = self.line();
            let event = self.reader.read_event().map_err(|error| {
                let position = usize::try_from(self.reader.error_position()).unwrap_or(usize::MAX);
                let line = self.line_at(position);
                refuse(&self.path(), line, format!("not well-formed XML: {error}"))
            })?;
            match event {
                Event::Start(tag) => {
                    let element = self.element(&tag, line)?;
                    if self.open.len() >= MAX_DEPTH {
                        return Err(self.refuse(
                            line,
                            format!("elements are nested deeper than {MAX_DEPTH} levels"),
                        ));
                    }
                    self.open.push(element);
                }
                Event::Empty(tag) => {
                    let element = self.element(&tag, line)?;
                    self.close(element, line)?;
                }
                Event::End(_) => {
                    if let Some(element) = self.open.pop() {
                        self.close(element, line)?;
                    }
                }
                Event::Text(text) => self.text(&text.xml10_content(), line)?,
                Event::CData(text) => self.text(&text.xml10_content(), line)?,
                Event::GeneralRef(reference) => {
                    let character = self.reference(&reference, line)?;
                    self.text(character.encode_utf8(&mut [0; 4]), line)?;
                }
                Event::Comment(_) => {}
                Event::Decl(_) => {
                    if self.root.is_some() || !self.open.is_empty() {
                        return Err(self.refuse(line, "an XML declaration inside the document"));
                    }
                }
                Event::PI(_) => {
                    return Err(self.refuse(line, "processing instructions are not supported"));
                }
                Event::DocType(_) => {
                    return Err(self.refuse(line, "a document type (DTD) is not supported"));
                }
                Event::Eof => break,
            }
        }
        let line = self.line();
        if !self.open.is_empty() {
            return Err(self.refuse(line, "the template ends inside this element"));
        }
        self.root
            .take()
            .ok_or_else(|| refuse("", line, "the template has no element"))
    }

    fn refuse(&self, line: u32, message: impl Into<String>) -> TemplateError {
        refuse(&self.path(), line, message)
    }

    /// The path of the innermost open element, without positions.
    fn path(&self) -> String {
        let mut path = String::new();
        for element in &self.open {
            path.push('/');
            path.push_str(&element.name);
        }
        path
    }

    /// The line that the reader has come to.
    fn line(&mut self) -> u32 {
        let position = usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX);
        let position = position.min(self.text.len());
        let (counted, line) = self.counted;
        let now = line + newlines(&self.text.as_bytes()[counted.min(position)..position]);
        self.counted = (position, now);
        now
    }

    fn line_at(&self, position: usize) -> u32 {
        1 + newlines(&self.text.as_bytes()[..position.min(self.text.len())])
    }

    fn element(&mut self, tag: &BytesStart<'_>, line: u32) -> Result<Element> {
        let id = ElementId(self.elements);
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(self.refuse(line, format!("more than {MAX_ELEMENTS} elements")));
        }
        let name = name_of(tag.name().as_ref());
        let path = format!("{}/{name}", self.path());
        let mut attributes: Vec<(String, String)> = Vec::new();
        // Uniqueness is checked here, after the bound, because the library's own check is quadratic.
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute
                .map_err(|error| refuse(&path, line, format!("not well-formed XML: {error}")))?;
            if attributes.len() == MAX_ATTRIBUTES {
                let message = format!("more than {MAX_ATTRIBUTES} attributes");
                return Err(refuse(&path, line, message));
            }
            let key = name_of(attribute.key.as_ref());
            let path = format!("{path}/@{key}");
            if attributes.iter().any(|(name, _)| *name == key) {
                return Err(refuse(&path, line, "the attribute is given twice"));
            }
            let value = quick_xml::escape::unescape(&attribute.value)
                .map_err(|error| refuse(&path, line, error.to_string()))?
                .into_owned();
            check_characters(&value).map_err(|message| refuse(&path, line, message))?;
            attributes.push((key, value));
        }
        Ok(Element {
            name,
            attributes,
            children: Vec::new(),
            text: String::new(),
            line,
            id,
        })
    }

    fn close(&mut self, element: Element, line: u32) -> Result<()> {
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None if self.root.is_none() => self.root = Some(element),
            None => {
                let path = format!("/{}", element.name);
                return Err(refuse(&path, line, "a second outermost element"));
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str, line: u32) -> Result<()> {
        check_characters(text).map_err(|message| self.refuse(line, message))?;
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() || text == "\u{feff}" => {}
            None => return Err(self.refuse(line, "text outside the outermost element")),
        }
        Ok(())
    }

    fn reference(&self, reference: &BytesRef<'_>, line: u32) -> Result<char> {
        if let Some(character) = reference
            .resolve_char_ref()
            .map_err(|error| self.refuse(line, error.to_string()))?
        {
            return Ok(character);
        }
        match reference.xml10_content().as_ref() {
            "lt" => Ok('<'),
            "gt" => Ok('>'),
            "amp" => Ok('&'),
            "apos" => Ok('\''),
            "quot" => Ok('"'),
            name => Err(self.refuse(
                line,
                format!(
                    "unknown entity `&{};`",
                    name.chars().take(40).collect::<String>()
                ),
            )),
        }
    }
}

fn newlines(bytes: &[u8]) -> u32 {
    let count = bytes.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn name_of(name: &str) -> String {
    name.to_owned()
}

/// XML 1.0 has no control characters but these three, and a command line can carry no NUL.
fn check_characters(text: &str) -> std::result::Result<(), String> {
    match text
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
    {
        Some(c) => Err(format!(
            "the control character U+{:04X} is not allowed",
            u32::from(c)
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> TemplateError {
        parse(text).expect_err("must be refused")
    }

    #[test]
    fn reads_elements_attributes_text_and_lines() {
        let root = parse("<?xml version='1.0'?>\n<!-- a -- b -->\n<a x='1&lt;2'>\n <b/>\n <c>d&amp;<![CDATA[<e>]]></c>\n</a>\n")
            .expect("well-formed");
        assert_eq!(root.name, "a");
        assert_eq!(root.line, 3);
        assert_eq!(root.attributes, [("x".to_owned(), "1<2".to_owned())]);
        assert_eq!(root.children[0].line, 4);
        assert_eq!(root.children[1].line, 5);
        assert_eq!(root.children[1].text, "d&<e>");
    }

    #[test]
    fn refuses_document_types_and_entities() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"yyyy\"><!ENTITY z \"&x;&x;\">]>\n<a>&z;</a>";
        assert!(error(bomb).message.contains("DTD"));
        let unknown = error("<a>\n<b>&z;</b></a>");
        assert_eq!((unknown.path.as_str(), unknown.line), ("/a/b", 2));
        assert!(unknown.message.contains("&z;"));
        assert_eq!(error("<a b='&z;'/>").path, "/a/@b");
    }

    #[test]
    fn refuses_what_is_past_the_bounds() {
        assert!(error(&" ".repeat(MAX_BYTES + 1)).message.contains("bytes"));
        assert!(
            error(&"<a>".repeat(MAX_DEPTH + 1))
                .message
                .contains("deeper")
        );
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS as usize));
        assert!(error(&many).message.contains("elements"));
        let attributes: String = (0..=MAX_ATTRIBUTES).map(|n| format!(" a{n}=''")).collect();
        assert!(
            error(&format!("<a{attributes}/>"))
                .message
                .contains("attributes")
        );
    }

    #[test]
    fn refuses_what_is_not_well_formed() {
        for text in [
            "",
            "  ",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>x",
            "<a b='1' b='2'/>",
            "<a b=1/>",
            "<a>&#0;</a>",
            "<a b='&#1;'/>",
            "<a>\u{1}</a>",
            "<a>&</a>",
            "<a",
            "<?x y?><a/>",
            "<a><?xml version='1.0'?></a>",
            "<a b='&'/>",
        ] {
            assert!(parse(text).is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn the_line_of_a_syntax_error_is_its_own() {
        assert_eq!(error("<a>\n\n</b>").line, 3);
    }
}
