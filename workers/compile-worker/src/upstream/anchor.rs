//! The links of a page of HTML, as its people write them: attributes in any order, with or without
//! quotes, and some without a value.

/// How many characters the name of a character has at most.
const ENTITY: usize = 10;

/// The attributes of a tag.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<(String, String)>);

/// The attributes of each link of a page. What stands in a comment is none.
pub(super) fn anchors(mut text: &str) -> Vec<Attributes> {
    let mut found = Vec::new();
    while let Some((_, rest)) = text.split_once('<') {
        if let Some(comment) = rest.strip_prefix("!--") {
            text = comment.split_once("-->").map_or("", |(_, rest)| rest);
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        text = rest;
        if !name.is_empty() {
            let (attributes, rest) = Attributes::parse(rest);
            text = rest;
            found.extend(name.eq_ignore_ascii_case("a").then_some(attributes));
        }
    }
    found
}

impl Attributes {
    /// Those of the tag that goes on like this, and what is behind it.
    fn parse(mut text: &str) -> (Self, &str) {
        let mut found = Self::default();
        loop {
            text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if let Some(rest) = text.strip_prefix('>') {
                return (found, rest);
            }
            let ends = |c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/');
            // One that begins with what ends others is one all the same.
            let end = text.char_indices().skip(1).find(|(_, c)| ends(*c));
            let (name, rest) = text.split_at(end.map_or(text.len(), |(at, _)| at));
            if name.is_empty() {
                return (found, "");
            }
            let (said, rest) = match rest.trim_start().strip_prefix('=') {
                Some(rest) => value(rest.trim_start()),
                None => ("", rest),
            };
            found.0.push((name.to_ascii_lowercase(), unescaped(said)));
            text = rest;
        }
    }

    /// The value of the first of this name; empty where it has none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

/// The value that this begins with, and what is behind it.
fn value(text: &str) -> (&str, &str) {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return text[1..].split_once(quote).unwrap_or((&text[1..], ""));
    }
    let end = text.find(|c: char| c.is_ascii_whitespace() || c == '>');
    text.split_at(end.unwrap_or(text.len()))
}

/// The text that a value stands for.
fn unescaped(mut text: &str) -> String {
    let mut plain = String::new();
    while let Some((before, rest)) = text.split_once('&') {
        plain.push_str(before);
        let end = rest.char_indices().take(ENTITY).find(|(_, c)| *c == ';');
        match end.and_then(|(at, _)| Some((character(&rest[..at])?, &rest[at + 1..]))) {
            Some((found, behind)) => {
                plain.push(found);
                text = behind;
            }
            None => {
                plain.push('&');
                text = rest;
            }
        }
    }
    plain + text
}

/// A character by its name, or its number.
fn character(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "amp" => '&',
        _ => {
            let digits = name.strip_prefix('#')?;
            let number = match digits.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => digits.parse(),
            };
            char::from_u32(number.ok()?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_is_read_however_it_is_written() {
        let page = "<!-- <a href='none'> --><P class=x>1 < 2 <a\n HREF = \"one\" data-yanked\n\
                    data-requires-python=\">=3.8\">one</a><A data-yanked=why href=two/>two</A>\
                    <abbr href=no><a/href='a&amp;b&#43;&#x2B;&gt;&none;&'>three";
        let found = anchors(page);
        let told: Vec<_> = found.iter().map(|it| (it.get("href"), it.get("data-yanked"))).collect();
        assert_eq!(
            told,
            [(Some("one"), Some("")), (Some("two/"), Some("why")), (Some("a&b++>&none;&"), None)]
        );
        assert_eq!(found[0].get("data-requires-python"), Some(">=3.8"));
    }

    proptest! {
        #[test]
        fn no_page_makes_the_reader_panic(
            page in prop::collection::vec(
                prop::sample::select(
                    vec!["<", "a", " ", "href", "=", "\"", "'", "/", ">", "<!--", "-->", "&", "#x", ";", "ä"],
                ),
                0..40,
            ),
        ) {
            let _ = anchors(&page.concat());
        }
    }
}
