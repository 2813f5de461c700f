//! What is written between the parentheses of `#[task(...)]`, parsed into checked values.
//! Every mistake is reported where it stands, and all of them at once.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, ExprUnary, Ident, Lit, LitBool, LitStr, Token, UnOp};

use crate::span::milliseconds;

/// Longest name of a task or queue, as in the protocol.
const NAME_BYTES_MAX: usize = 255;

/// Highest priority of the protocol.
const PRIORITY_MAX: u32 = 9;

const KNOWN: &str = "name, queue, max_attempts, retry_delay, backoff, retry_factor, retry_delay_max, jitter, \
                     soft_time_limit, time_limit, priority, expires, result_ttl, max_deliveries, early_ack";

/// The way delays grow, by the names of the client's enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backoff {
    Exponential,
    Fixed,
    Polynomial,
}

/// The random part of a delay, by the names of the client's enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jitter {
    None,
    Full,
    Equal,
}

/// The attributes of one task. What was left out takes the broker's default.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) retry_delay_ms: Option<u64>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) retry_factor: Option<f64>,
    pub(crate) retry_delay_max_ms: Option<u64>,
    pub(crate) jitter: Option<Jitter>,
    pub(crate) soft_time_limit_ms: Option<u64>,
    pub(crate) time_limit_ms: Option<u64>,
    pub(crate) priority: Option<u32>,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) result_ttl_ms: Option<u64>,
    pub(crate) max_deliveries: Option<u32>,
    pub(crate) early_ack: bool,
}

impl Attributes {
    fn set(&mut self, item: &Item) -> syn::Result<()> {
        match item.key.to_string().as_str() {
            "name" => self.name = Some(item.name()?),
            "queue" => self.queue = Some(item.name()?),
            "max_attempts" => self.max_attempts = Some(item.number(1, u32::MAX)?),
            "retry_delay" => self.retry_delay_ms = Some(item.span()?),
            "backoff" => {
                self.backoff = Some(item.choice(&[
                    ("exponential", Backoff::Exponential),
                    ("fixed", Backoff::Fixed),
                    ("polynomial", Backoff::Polynomial),
                ])?);
            }
            "retry_factor" => self.retry_factor = Some(item.factor()?),
            "retry_delay_max" => self.retry_delay_max_ms = Some(item.span()?),
            "jitter" => {
                self.jitter = Some(item.choice(&[
                    ("none", Jitter::None),
                    ("full", Jitter::Full),
                    ("equal", Jitter::Equal),
                ])?);
            }
            "soft_time_limit" => self.soft_time_limit_ms = Some(item.limit()?),
            "time_limit" => self.time_limit_ms = Some(item.limit()?),
            "priority" => self.priority = Some(item.number(0, PRIORITY_MAX)?),
            "expires" => self.expires_ms = Some(item.limit()?),
            "result_ttl" => self.result_ttl_ms = Some(item.span()?),
            "max_deliveries" => self.max_deliveries = Some(item.number(1, u32::MAX)?),
            "early_ack" => self.early_ack = item.flag()?,
            unknown => {
                let message = format!("`{unknown}` is no attribute of a task; known are {KNOWN}");
                return Err(syn::Error::new(item.key.span(), message));
            }
        }
        Ok(())
    }

    /// Rules between two attributes.
    fn check(&self, items: &Punctuated<Item, Token![,]>) -> syn::Result<()> {
        let at = |key: &str| items.iter().find(|item| item.key == key).map(|item| item.key.span());
        if let (Some(soft), Some(hard), Some(span)) =
            (self.soft_time_limit_ms, self.time_limit_ms, at("soft_time_limit"))
            && soft >= hard
        {
            return Err(syn::Error::new(
                span,
                "the soft time limit must be shorter than the time limit",
            ));
        }
        if let (Some(delay), Some(max), Some(span)) =
            (self.retry_delay_ms, self.retry_delay_max_ms, at("retry_delay_max"))
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
        let mut collect = |outcome: syn::Result<()>| {
            if let Err(error) = outcome {
                match &mut errors {
                    Some(errors) => errors.combine(error),
                    None => errors = Some(error),
                }
            }
        };
        for (index, item) in items.iter().enumerate() {
            if items.iter().take(index).any(|earlier| earlier.key == item.key) {
                collect(Err(syn::Error::new(
                    item.key.span(),
                    format!("`{}` is given twice", item.key),
                )));
            } else {
                collect(attributes.set(item));
            }
        }
        collect(attributes.check(&items));
        errors.map_or(Ok(attributes), Err)
    }
}

/// `key = value`, or a key alone.
struct Item {
    key: Ident,
    value: Option<Expr>,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key: Ident = input.parse()?;
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
    fn error(&self, message: impl std::fmt::Display) -> syn::Error {
        match &self.value {
            Some(value) => syn::Error::new_spanned(value, message),
            None => syn::Error::new(self.key.span(), message),
        }
    }

    fn literal(&self) -> Option<&Lit> {
        match &self.value {
            Some(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
            _ => None,
        }
    }

    fn text(&self, example: &str) -> syn::Result<&LitStr> {
        match self.literal() {
            Some(Lit::Str(text)) => Ok(text),
            _ => Err(self
                .error(format!("`{}` takes a text, as in `{} = {example}`", self.key, self.key))),
        }
    }

    fn name(&self) -> syn::Result<String> {
        let text = self.text("\"songs\"")?.value();
        match text.len() {
            1..=NAME_BYTES_MAX => Ok(text),
            bytes => {
                Err(self
                    .error(format!("a name has 1 to {NAME_BYTES_MAX} bytes, this one has {bytes}")))
            }
        }
    }

    fn span(&self) -> syn::Result<u64> {
        milliseconds(self.text("\"10s\"")?)
    }

    /// A span that would make no sense if it were 0.
    fn limit(&self) -> syn::Result<u64> {
        match self.span()? {
            0 => Err(self.error(format!("`{}` must be above 0", self.key))),
            ms => Ok(ms),
        }
    }

    fn number(&self, min: u32, max: u32) -> syn::Result<u32> {
        let number = match self.literal() {
            Some(Lit::Int(number)) => number.base10_parse::<u32>().ok(),
            _ => None,
        };
        number.filter(|number| (min..=max).contains(number)).ok_or_else(|| match max {
            u32::MAX => self.error(format!("`{}` takes a whole number from {min} on", self.key)),
            max => self.error(format!("`{}` takes a whole number from {min} to {max}", self.key)),
        })
    }

    fn factor(&self) -> syn::Result<f64> {
        let factor = match (self.literal(), &self.value) {
            (Some(Lit::Float(number)), _) => number.base10_parse::<f64>().ok(),
            (Some(Lit::Int(number)), _) => number.base10_parse::<f64>().ok(),
            (_, Some(Expr::Unary(ExprUnary { op: UnOp::Neg(_), .. }))) => None,
            _ => None,
        };
        factor.filter(|factor| factor.is_finite() && *factor > 0.0).ok_or_else(|| {
            self.error(format!("`{}` takes a number above 0, as in `{} = 2.0`", self.key, self.key))
        })
    }

    fn flag(&self) -> syn::Result<bool> {
        match (&self.value, self.literal()) {
            (None, _) => Ok(true),
            (_, Some(Lit::Bool(LitBool { value, .. }))) => Ok(*value),
            _ => Err(self.error(format!("`{}` stands alone, or is true or false", self.key))),
        }
    }

    fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> syn::Result<T> {
        let example = choices.first().map_or(String::new(), |(word, _)| format!("{word:?}"));
        let text = self.text(&example)?.value();
        choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
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
        assert_eq!(attributes.name.as_deref(), Some("songs.preprocess"));
        assert_eq!(attributes.queue.as_deref(), Some("songs"));
        assert_eq!(attributes.max_attempts, Some(4));
        assert_eq!(attributes.retry_delay_ms, Some(1_000));
        assert_eq!(attributes.backoff, Some(Backoff::Polynomial));
        assert_eq!(attributes.retry_factor, Some(3.0));
        assert_eq!(attributes.retry_delay_max_ms, Some(600_000));
        assert_eq!(attributes.jitter, Some(Jitter::Equal));
        assert_eq!(attributes.soft_time_limit_ms, Some(540_000));
        assert_eq!(attributes.time_limit_ms, Some(600_000));
        assert_eq!(attributes.priority, Some(7));
        assert_eq!(attributes.expires_ms, Some(86_400_000));
        assert_eq!(attributes.result_ttl_ms, Some(0));
        assert_eq!(attributes.max_deliveries, Some(5));
        assert!(attributes.early_ack);
    }

    #[test]
    fn nothing_is_set_that_was_not_written() {
        let attributes: Attributes = syn::parse_str("").expect("no attribute is needed");
        assert_eq!(attributes.name, None);
        assert_eq!(attributes.max_attempts, None);
        assert!(!attributes.early_ack);
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
