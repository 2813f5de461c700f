//! The names and values of a query or a form, as a browser sends them. A form sends each of its
//! fields, also those that nobody has filled in: an empty value is no value.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::problem::Problem;
use crate::query::shortened;

/// Names and values, until somebody takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked(Vec<(String, String)>);

impl Asked {
    /// The pairs of a query or of the body of a form.
    pub(crate) fn of(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The value of this name. An empty one counts as missing.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.take_all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Problem::invalid(format!("`{name}` comes twice"))),
        }
    }

    /// The value of this name, which has to be there.
    pub(crate) fn need(&mut self, name: &str) -> Result<String, Problem> {
        self.take(name)?.ok_or_else(|| Problem::invalid(format!("`{name}` is missing")))
    }

    /// A whole number in decimal digits and nothing else, within this range.
    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if is_digits && range.contains(&number) => Ok(Some(number)),
            _ => Err(Problem::invalid(format!(
                "{name}: `{}` is not a whole number from {} to {}",
                shortened(&text),
                range.start(),
                range.end()
            ))),
        }
    }

    /// Every value of this name that is not empty.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<String> {
        let is_it = |pair: &mut (String, String)| pair.0 == name;
        let taken = self.0.extract_if(.., is_it).map(|(_, value)| value);
        taken.filter(|value| !value.is_empty()).collect()
    }

    /// What nobody has taken so far.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The text of a stranger that [`for_form`] has encoded. An empty one counts as missing.
    pub(crate) fn take_text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.take(name)?.map(|value| from_form(name, &value)).transpose()
    }

    /// Every text of this name that [`for_form`] has encoded.
    pub(crate) fn take_texts(&mut self, name: &str) -> Result<Vec<String>, Problem> {
        self.take_all(name).iter().map(|value| from_form(name, value)).collect()
    }

    /// Refuses a name that nobody has taken.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(Problem::invalid(format!("`{}` means nothing here", shortened(name))))
            }
        }
    }
}

/// A text of a stranger as the value of a field that nobody types. A browser changes line breaks
/// and NUL on their way through a page and a form, and two names may differ in them alone. So these
/// characters, and the percent sign that begins an escape, are percent-encoded.
pub(crate) fn for_form(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '%' | '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(value, "%{:02X}", u32::from(character));
            }
            character => value.push(character),
        }
    }
    value
}

fn from_form(name: &str, value: &str) -> Result<String, Problem> {
    let mut parts = value.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let escape = part.get(..2).filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = escape.and_then(|escape| u8::from_str_radix(escape, 16).ok());
        let Some(code) = code.filter(u8::is_ascii) else {
            return Err(Problem::invalid(format!("`{name}` is none that these pages have sent")));
        };
        text.push(char::from(code));
        text.push_str(&part[2..]);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_without_a_value_are_missing_and_others_have_to_be_known() {
        let mut asked = Asked::of("queue=&name=a+b%2F&id=1&id=&id=2");
        assert_eq!(asked.take("queue"), Ok(None));
        assert_eq!(asked.take("name"), Ok(Some("a b/".to_owned())));
        assert_eq!(asked.take_all("id"), ["1", "2"]);
        assert_eq!(asked.finish(), Ok(()));
        assert!(Asked::of("a=1&a=2").take("a").is_err());
        assert!(Asked::of("days=1").finish().is_err());
    }

    #[test]
    fn a_browser_finds_nothing_to_change_in_the_text_of_a_stranger() {
        for text in
            ["x\ny", "x\r\ny", "x\ry", "x\0y", "100%", "%0A", "a/b?c=d&e+f ü \u{202e}", "\t\u{7f}"]
        {
            let value = for_form(text);
            assert!(!value.contains(|it: char| it.is_ascii_control()), "{value:?}");
            assert_eq!(from_form("id", &value), Ok(text.to_owned()));
        }
        assert_eq!(for_form("songs.play-7"), "songs.play-7");
        for value in ["%", "%4", "%zz", "a%c3%bc", "%+1", "%ü"] {
            assert!(from_form("id", value).is_err(), "{value}");
        }
    }

    #[test]
    fn o31_a_number_outside_its_range_is_refused() {
        let number = |text: &str| Asked::of(text).number("n", 1..=60);
        assert_eq!(number("n=60"), Ok(Some(60)));
        assert_eq!(number("n="), Ok(None));
        for text in ["n=0", "n=61", "n=-1", "n=%2B1", "n=1e1", "n=99999999999999999999", "n=1.5"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
