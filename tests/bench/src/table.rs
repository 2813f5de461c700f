//! The table of a run: configuration and figures in order, for people and for programs.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value};

/// The rows of one run.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<(String, Value, &'static str)>,
}

impl Table {
    /// Adds a figure with its unit.
    pub(crate) fn row(
        &mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
        unit: &'static str,
    ) {
        self.rows.push((name.into(), value.into(), unit));
    }

    /// Writes the table to stdout.
    pub(crate) fn print(&self, json: bool) -> std::io::Result<()> {
        let text = if json { self.json() } else { self.text() };
        writeln!(std::io::stdout(), "{}", text.trim_end())
    }

    fn text(&self) -> String {
        let width = self.rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value, unit) in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:width$}  {:>14} {unit}", readable(value));
        }
        text
    }

    fn json(&self) -> String {
        let mut object = Map::new();
        for (name, value, unit) in &self.rows {
            let key = if unit.is_empty() { name.clone() } else { format!("{name} ({unit})") };
            object.insert(key, value.clone());
        }
        Value::Object(object).to_string()
    }
}

fn readable(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_u64() => {
            let digits = number.to_string();
            let mut grouped = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        Value::Number(number) => {
            number.as_f64().map_or_else(|| number.to_string(), |float| format!("{float:.3}"))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
