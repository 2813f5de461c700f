//! The attributes between the parentheses of `#[task(...)]`, parsed into checked values. Every
//! mistake is reported at its place, and all mistakes at once.
//!
//! [`ATTRIBUTES`] lists the attributes. If you add one, add its row there and in the table of the
//! macro's documentation; `expansion` needs no change.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, Ident, Lit, LitBool, LitStr, Token};

use crate::span::milliseconds;

/// The longest name of a task or queue, as in the protocol.
const NAME_BYTES_MAX: usize = 255;

/// The highest priority of the protocol.
const PRIORITY_MAX: u32 = 9;

/// One attribute: what is written, and what it sets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The word before the `=`.
    key: &'static str,
    /// The values that it takes.
    kind: Kind,
    /// What its value sets.
    pub(crate) target: Target,
}

/// Which values an attribute takes.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A text of 1 to [`NAME_BYTES_MAX`] bytes.
    Name,
    /// A whole number within bounds.
    Number { min: u32, max: u32 },
    /// A number above 0.
    Factor,
    /// A span of time.
    Span,
    /// A span of time above 0.
    Limit,
    /// Nothing, or true or false.
    Flag,
    /// One of these words. Each has the name of its variant in the enum of the client crate.
    Choice { of: &'static str, words: &'static [(&'static str, &'static str)] },
}

/// Where the expansion puts the value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The name of the task.
    TaskName,
    /// This field of `TaskOptions`.
    Option(&'static str),
    /// This builder method of `RetryPolicy`.
    RetryPolicy(&'static str),
}

/// All attributes, in the order in which messages list them.
pub(crate) const ATTRIBUTES: [Known; 15] = [
    Known { key: "name", kind: Kind::Name, target: Target::TaskName },
    Known { key: "queue", kind: Kind::Name, target: Target::Option("queue") },
    Known {
        key: "max_attempts",
        kind: Kind::Number { min: 1, max: u32::MAX },
        target: Target::RetryPolicy("max_attempts"),
    },
    Known { key: "retry_delay", kind: Kind::Span, target: Target::RetryPolicy("delay") },
    Known {
        key: "backoff",
        kind: Kind::Choice {
            of: "Backoff",
            words: &[
                ("exponential", "Exponential"),
                ("fixed", "Fixed"),
                ("polynomial", "Polynomial"),
            ],
        },
        target: Target::RetryPolicy("backoff"),
    },
    Known { key: "retry_factor", kind: Kind::Factor, target: Target::RetryPolicy("factor") },
    Known { key: "retry_delay_max", kind: Kind::Span, target: Target::RetryPolicy("delay_max") },
    Known {
        key: "jitter",
        kind: Kind::Choice {
            of: "Jitter",
            words: &[("none", "None"), ("full", "Full"), ("equal", "Equal")],
        },
        target: Target::RetryPolicy("jitter"),
    },
    Known { key: "soft_time_limit", kind: Kind::Limit, target: Target::Option("soft_time_limit") },
    Known { key: "time_limit", kind: Kind::Limit, target: Target::Option("time_limit") },
    Known {
        key: "priority",
        kind: Kind::Number { min: 0, max: PRIORITY_MAX },
        target: Target::Option("priority"),
    },
    Known { key: "expires", kind: Kind::Limit, target: Target::Option("expires_in") },
    Known { key: "result_ttl", kind: Kind::Span, target: Target::Option("result_ttl") },
    Known {
        key: "max_deliveries",
        kind: Kind::Number { min: 1, max: u32::MAX },
        target: Target::Option("max_deliveries"),
    },
    Known { key: "early_ack", kind: Kind::Flag, target: Target::Option("early_ack") },
];

/// The checked value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// The text of a name.
    Text(String),
    /// A whole number.
    Number(u32),
    /// A number above 0.
    Factor(f64),
    /// A span of time in milliseconds.
    Span(u64),
    /// True or false. An attribute without a value is true.
    Flag(bool),
    /// A variant of an enum of the client crate.
    Variant { of: &'static str, variant: &'static str },
}

/// The attributes of one task. The broker's default counts for an attribute that is not written.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    /// In the order in which they are written.
    pub(crate) written: Vec<Written>,
}

/// One attribute as it is written.
#[derive(Debug)]
pub(crate) struct Written {
    /// The row of [`ATTRIBUTES`].
    pub(crate) known: &'static Known,
    /// The checked value.
    pub(crate) value: Value,
}

impl Attributes {
    /// The name of the task, when it is written.
    pub(crate) fn name(&self) -> Option<&str> {
        match self.value("name") {
            Some(Value::Text(name)) => Some(name),
            _ => None,
        }
    }

    /// The value of an attribute, when it is written.
    fn value(&self, key: &str) -> Option<&Value> {
        self.written.iter().find(|written| written.known.key == key).map(|written| &written.value)
    }

    /// The milliseconds of an attribute that is a span, when it is written.
    fn span(&self, key: &str) -> Option<u64> {
        match self.value(key) {
            Some(Value::Span(ms)) => Some(*ms),
            _ => None,
        }
    }

    /// Adds an attribute. Fails for an unknown one, and for a value that it does not take.
    fn add(&mut self, item: &Item) -> syn::Result<()> {
        let Some(known) = ATTRIBUTES.iter().find(|known| item.key == known.key) else {
            let keys: Vec<&str> = ATTRIBUTES.iter().map(|known| known.key).collect();
            let message = format!(
                "`{}` is no attribute of a task; the attributes are {}",
                item.key,
                keys.join(", ")
            );
            return Err(syn::Error::new(item.key.span(), message));
        };
        let value = item.value(&known.kind)?;
        self.written.push(Written { known, value });
        Ok(())
    }

    /// Checks the rules between two attributes.
    fn check(&self, items: &Punctuated<Item, Token![,]>) -> syn::Result<()> {
        let at = |key: &str| items.iter().find(|item| item.key == key).map(|item| item.key.span());
        if let (Some(soft), Some(hard), Some(span)) =
            (self.span("soft_time_limit"), self.span("time_limit"), at("soft_time_limit"))
            && soft >= hard
        {
            return Err(syn::Error::new(
                span,
                "the soft time limit must be shorter than the time limit",
            ));
        }
        if let (Some(delay), Some(max), Some(span)) =
            (self.span("retry_delay"), self.span("retry_delay_max"), at("retry_delay_max"))
            && max < delay
        {
            return Err(syn::Error::new(
                span,
                "the longest retry delay must not be shorter than the first",
            ));
        }
        Ok(())
    }
}

impl Parse for Attributes {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let items = Punctuated::<Item, Token![,]>::parse_terminated(input)?;
        let mut attributes = Self::default();
        let mut errors: Option<syn::Error> = None;
        // All mistakes are kept, so that the user sees them in one run of the compiler.
        let mut collect = |outcome: syn::Result<()>| {
            if let Err(error) = outcome {
                match &mut errors {
                    Some(errors) => errors.combine(error),
                    None => errors = Some(error),
                }
            }
        };
        for (index, item) in items.iter().enumerate() {
            // An attribute that is given twice is reported at the second place.
            if items.iter().take(index).any(|earlier| earlier.key == item.key) {
                collect(Err(syn::Error::new(
                    item.key.span(),
                    format!("`{}` is given twice", item.key),
                )));
            } else {
                collect(attributes.add(item));
            }
        }
        collect(attributes.check(&items));
        // Without an error all values are checked, and nothing can fail when the worker runs.
        errors.map_or(Ok(attributes), Err)
    }
}

/// `key = value`, or a key alone.
struct Item {
    /// The word before the `=`, with its place in the source.
    key: Ident,
    /// The expression after the `=`.
    value: Option<Expr>,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key: Ident = input.parse()?;
        // A key alone is a flag.
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Some(input.parse()?)
        } else {
            None
        };
        Ok(Self { key, value })
    }
}

impl Item {
    /// The value, when it is one of this kind.
    fn value(&self, kind: &Kind) -> syn::Result<Value> {
        match *kind {
            Kind::Name => self.name().map(Value::Text),
            Kind::Number { min, max } => self.number(min, max).map(Value::Number),
            Kind::Factor => self.factor().map(Value::Factor),
            Kind::Span => self.span().map(Value::Span),
            Kind::Limit => self.limit().map(Value::Span),
            Kind::Flag => self.flag().map(Value::Flag),
            Kind::Choice { of, words } => {
                self.choice(words).map(|variant| Value::Variant { of, variant })
            }
        }
    }

    /// An error at the place of the value, or at the key when there is no value.
    fn error(&self, message: impl std::fmt::Display) -> syn::Error {
        match &self.value {
            Some(value) => syn::Error::new_spanned(value, message),
            None => syn::Error::new(self.key.span(), message),
        }
    }

    /// The value, when it is a literal.
    fn literal(&self) -> Option<&Lit> {
        match &self.value {
            Some(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
            _ => None,
        }
    }

    /// The value, when it is a text. The example shows in the error how to write it.
    fn text(&self, example: &str) -> syn::Result<&LitStr> {
        match self.literal() {
            Some(Lit::Str(text)) => Ok(text),
            _ => Err(self
                .error(format!("`{}` takes a text, as in `{} = {example}`", self.key, self.key))),
        }
    }

    /// A name of a task or queue. Its length is counted in bytes, as the protocol does.
    fn name(&self) -> syn::Result<String> {
        // The broker makes the same check. Here the mistake is found before anything runs.
        let text = self.text("\"songs\"")?.value();
        match text.len() {
            1..=NAME_BYTES_MAX => Ok(text),
            bytes => {
                Err(self
                    .error(format!("a name has 1 to {NAME_BYTES_MAX} bytes, this one has {bytes}")))
            }
        }
    }

    /// A span in milliseconds.
    fn span(&self) -> syn::Result<u64> {
        milliseconds(self.text("\"10s\"")?)
    }

    /// A span in milliseconds that must not be 0.
    fn limit(&self) -> syn::Result<u64> {
        match self.span()? {
            0 => Err(self.error(format!("`{}` must be above 0", self.key))),
            ms => Ok(ms),
        }
    }

    /// A whole number within these bounds, both included.
    fn number(&self, min: u32, max: u32) -> syn::Result<u32> {
        let number = match self.literal() {
            Some(Lit::Int(number)) => number.base10_parse::<u32>().ok(),
            _ => None,
        };
        // A negative number, a text and no value at all have the same message.
        number.filter(|number| (min..=max).contains(number)).ok_or_else(|| match max {
            u32::MAX => self.error(format!("`{}` takes a whole number from {min} on", self.key)),
            max => self.error(format!("`{}` takes a whole number from {min} to {max}", self.key)),
        })
    }

    /// A number above 0, whole or with a fraction.
    fn factor(&self) -> syn::Result<f64> {
        // A negative number is no literal, and is refused with the others.
        let factor = match self.literal() {
            Some(Lit::Float(number)) => number.base10_parse::<f64>().ok(),
            Some(Lit::Int(number)) => number.base10_parse::<f64>().ok(),
            _ => None,
        };
        factor.filter(|factor| factor.is_finite() && *factor > 0.0).ok_or_else(|| {
            self.error(format!("`{}` takes a number above 0, as in `{} = 2.0`", self.key, self.key))
        })
    }

    /// True for an attribute without a value.
    fn flag(&self) -> syn::Result<bool> {
        match (&self.value, self.literal()) {
            (None, _) => Ok(true),
            (_, Some(Lit::Bool(LitBool { value, .. }))) => Ok(*value),
            _ => Err(self.error(format!("`{}` stands alone, or is true or false", self.key))),
        }
    }

    /// The variant for the written word.
    fn choice(&self, words: &[(&str, &'static str)]) -> syn::Result<&'static str> {
        // The first word shows how a text is written.
        let example = words.first().map_or(String::new(), |(word, _)| format!("{word:?}"));
        let text = self.text(&example)?.value();
        words.iter().find(|(word, _)| *word == text).map(|(_, variant)| *variant).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.error(format!("`{}` is one of {}", self.key, words.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let error = syn::parse_str::<Attributes>(text).expect_err("must be refused");
        error.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn every_attribute_is_understood() {
        let attributes: Attributes = syn::parse_str(
            r#"name = "songs.preprocess", queue = "songs", max_attempts = 4, retry_delay = "1s",
               backoff = "polynomial", retry_factor = 3, retry_delay_max = "10m", jitter = "equal",
               soft_time_limit = "9m", time_limit = "10m", priority = 7, expires = "1d",
               result_ttl = "0s", max_deliveries = 5, early_ack,"#,
        )
        .expect("all of them are known");
        let expected = [
            ("name", Value::Text("songs.preprocess".to_owned())),
            ("queue", Value::Text("songs".to_owned())),
            ("max_attempts", Value::Number(4)),
            ("retry_delay", Value::Span(1_000)),
            ("backoff", Value::Variant { of: "Backoff", variant: "Polynomial" }),
            ("retry_factor", Value::Factor(3.0)),
            ("retry_delay_max", Value::Span(600_000)),
            ("jitter", Value::Variant { of: "Jitter", variant: "Equal" }),
            ("soft_time_limit", Value::Span(540_000)),
            ("time_limit", Value::Span(600_000)),
            ("priority", Value::Number(7)),
            ("expires", Value::Span(86_400_000)),
            ("result_ttl", Value::Span(0)),
            ("max_deliveries", Value::Number(5)),
            ("early_ack", Value::Flag(true)),
        ];
        assert_eq!(expected.len(), ATTRIBUTES.len());
        for (key, value) in &expected {
            assert_eq!(attributes.value(key), Some(value), "{key}");
        }
    }

    #[test]
    fn nothing_is_set_that_was_not_written() {
        let attributes: Attributes = syn::parse_str("").expect("no attribute is needed");
        assert_eq!(attributes.name(), None);
        assert!(attributes.written.is_empty());
    }

    #[test]
    fn an_unknown_attribute_is_named_with_the_known_ones() {
        let refusal = refusal("max_atempts = 4");
        assert!(refusal.contains("`max_atempts`") && refusal.contains("max_attempts"), "{refusal}");
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let refusal = refusal(r#"retry_delay = "soon", priority = 10, jitter = "some", name = """#);
        for part in ["`soon`", "0 to 9", "\"full\"", "1 to 255 bytes"] {
            assert!(refusal.contains(part), "{part} in {refusal}");
        }
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        for text in [
            "max_attempts = 0",
            "max_attempts = -1",
            "max_attempts = \"4\"",
            "max_attempts",
            "retry_factor = 0.0",
            "retry_factor = -2",
            "time_limit = \"0s\"",
            "time_limit = 10",
            "early_ack = 1",
            "name = \"a\", name = \"b\"",
            "soft_time_limit = \"10m\", time_limit = \"10m\"",
            "retry_delay = \"2s\", retry_delay_max = \"1s\"",
        ] {
            refusal(text);
        }
    }
}
