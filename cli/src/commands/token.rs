//! `celeriac token`: makes tokens, and checks an access file as the broker would read it. Neither
//! needs a broker.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_broker::{Access, AccessEntry, NewToken, Role};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::rights::Rights;
use crate::exit::{Exit, Failure};
use crate::line::{Text, Tone};
use crate::output::{Format, Output, print_to_stderr};
use crate::table::{ALWAYS, Column, Table};
use crate::time::{Moment, iso, ms, now_ms, parse_moment_or_span, whole_ms};
use celeriac_web::printable::clean;

mod rights;

/// The arguments of `token`.
#[derive(Args)]
pub(crate) struct TokenArguments {
    #[command(subcommand)]
    action: TokenSubcommand,
}

#[derive(Subcommand)]
enum TokenSubcommand {
    /// Print a new token, once, and its entry for the access file
    #[command(override_usage = NEW_USAGE)]
    New(NewArguments),
    /// Read an access file as the broker would, and list its entries
    Check(CheckArguments),
}

/// The usage of `token new`, in a line of 80 columns.
const NEW_USAGE: &str = "celeriac token new [OPTIONS] --name <NAME> --role <ROLE> --queue <QUEUE>";

/// The arguments of `token new`.
#[derive(Args)]
struct NewArguments {
    /// Who the token is for: the name in logs and lists
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What the token allows; may be repeated
    #[arg(long = "role", required = true, value_parser = parse_role)]
    #[arg(value_name = "producer|worker|reader|operator")]
    roles: Vec<Role>,

    /// The queues that it allows: a name, a beginning such as 'mail-*', or '*'; may be repeated
    #[arg(long = "queue", required = true, value_name = "PATTERN")]
    queues: Vec<String>,

    /// The task names that it allows, in the same way [default: *]
    #[arg(long = "task-name", value_name = "PATTERN")]
    names: Vec<String>,

    /// Let a reader or an operator have payloads and results too
    #[arg(long)]
    bodies: bool,

    /// When the token ends: a span from now, or a time with its offset [default: never]
    #[arg(long, value_parser = parse_moment_or_span, value_name = "SPAN|TIME")]
    expires: Option<Moment>,
}

/// The arguments of `token check`.
#[derive(Args)]
struct CheckArguments {
    /// The access file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// A new token for programs.
#[derive(Serialize)]
struct NewDocument<'a> {
    token: &'a str,
    entry: &'a str,
}

/// An entry for programs.
#[derive(Serialize)]
struct EntryDocument<'a> {
    name: &'a str,
    key: &'a str,
    roles: Vec<&'static str>,
    queues: &'a [String],
    names: &'a [String],
    bodies: bool,
    expires: Option<&'a str>,
    expired: bool,
    line: usize,
}

/// Makes a token, or checks a file.
pub(crate) fn run(arguments: TokenArguments, output: &mut Output) -> Result<Exit, Failure> {
    match arguments.action {
        TokenSubcommand::New(arguments) => new(&arguments, output),
        TokenSubcommand::Check(arguments) => check(&arguments, output),
    }
}

fn new(arguments: &NewArguments, output: &mut Output) -> Result<Exit, Failure> {
    if let Some(moment) = arguments.expires
        && end_ms(moment) <= now_ms()
    {
        return Err(Failure::usage("--expires: this time is over, so nobody could use the token"));
    }
    let new = NewToken::draw();
    let entry = entry(arguments, &new);
    // A mistake in a pattern shows now, and not when the broker reads the entry.
    Access::check_text(&entry).map_err(|error| Failure::usage(mistake(&error.to_string())))?;
    match output.format {
        Format::Json => output.document(&NewDocument { token: &new.token, entry: &entry })?,
        Format::Text => output.line(&format!("{}\n\n{}", new.token, entry.trim_end()))?,
    }
    Ok(Exit::Success)
}

/// A mistake without the place in a file: there is none yet.
fn mistake(sentence: &str) -> &str {
    let after_line = |rest: &'_ str| {
        let rest = rest.trim_start_matches(|character: char| character.is_ascii_digit());
        rest.strip_prefix(": ").map(str::len)
    };
    let place = sentence.split_once(".toml:").and_then(|(_, rest)| after_line(rest));
    place.map_or(sentence, |length| &sentence[sentence.len() - length..])
}

/// The entry of a new token, as the access file has it.
fn entry(arguments: &NewArguments, new: &NewToken) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |texts: Vec<&str>| {
        format!("[{}]", texts.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
    };
    let texts = |texts: &[String]| match texts {
        [] => list(vec!["*"]),
        texts => list(texts.iter().map(String::as_str).collect()),
    };
    let mut entry = format!(
        "[[token]]\nname = {}\nid = {}\nsha256 = {}\nroles = {}\nqueues = {}\nnames = {}\n",
        quoted(&arguments.name),
        quoted(&new.id),
        quoted(&new.sha256),
        list(arguments.roles.iter().map(|role| role.name()).collect()),
        texts(&arguments.queues),
        texts(&arguments.names),
    );
    if arguments.bodies {
        entry += "bodies = true\n";
    }
    if let Some(moment) = arguments.expires {
        entry += &format!("expires = {}\n", iso(end_ms(moment)));
    }
    entry
}

fn end_ms(moment: Moment) -> i64 {
    match moment {
        Moment::At(time) => ms(time),
        Moment::In(span) => now_ms().saturating_add_unsigned(whole_ms(whole_seconds(span))),
    }
}

fn whole_seconds(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs())
}

fn check(arguments: &CheckArguments, output: &mut Output) -> Result<Exit, Failure> {
    let report =
        Access::report(&arguments.file).map_err(|error| Failure::usage(error.to_string()))?;
    for warning in &report.warnings {
        print_to_stderr(&clean(warning));
    }
    let rights = rights::of_file(&arguments.file, &report.entries)?;
    let entries: Vec<(&AccessEntry, &Rights)> = report.entries.iter().zip(&rights).collect();
    match output.format {
        Format::Json => {
            for entry in entries {
                output.document(&document(entry))?;
            }
        }
        Format::Text => output.table(&table(&entries))?,
    }
    Ok(Exit::Success)
}

fn document<'a>((entry, rights): (&'a AccessEntry, &'a Rights)) -> EntryDocument<'a> {
    EntryDocument {
        name: &entry.name,
        key: &entry.key,
        roles: entry.roles.iter().map(|role| role.name()).collect(),
        queues: &rights.queues,
        names: &rights.names,
        bodies: rights.bodies,
        expires: entry.expires.as_deref(),
        expired: entry.is_expired,
        line: entry.line,
    }
}

/// All columns but the line have room in 80 columns of a terminal.
fn table(entries: &[(&AccessEntry, &Rights)]) -> Table {
    let mut table = Table::new(&[
        Column::name("NAME", 10),
        Column::other_name("ID", ALWAYS, 8),
        Column::text("ROLES", ALWAYS, 16),
        Column::text("QUEUES", 1, 8),
        Column::text("NAMES", 2, 8),
        Column::word("BODIES", 4),
        Column::word("EXPIRES", 3),
        Column::number("LINE", 5),
    ]);
    for (entry, rights) in entries {
        let roles: Vec<&str> = entry.roles.iter().map(|role| role.name()).collect();
        table.push(vec![
            Text::from(entry.name.as_str()),
            Text::from(entry.key.as_str()),
            Text::from(roles.join(", ")),
            Text::from(rights.queues.join(", ")),
            Text::from(rights.names.join(", ")),
            Text::from(if rights.bodies { "yes" } else { "" }),
            expires(entry),
            Text::from(entry.line.to_string()),
        ]);
    }
    table
}

/// The day of the end, in UTC, or that it is over. JSON has the moment.
fn expires(entry: &AccessEntry) -> Text {
    const DAY: usize = "2027-05-01".len();
    let day = |at: &String| at.get(..DAY).unwrap_or(at).to_owned();
    match entry.expires.as_ref().map(day) {
        None => "never".into(),
        Some(_) if entry.is_expired => Text::new("EXPIRED", Tone::Bad),
        Some(day) => day.into(),
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text)
        .ok_or_else(|| "the roles are producer, worker, reader and operator".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_of_a_flag_names_no_file() {
        assert_eq!(mistake("access.toml:5: `a*b` is no pattern"), "`a*b` is no pattern");
        assert_eq!(mistake("`a.toml:b` is no pattern"), "`a.toml:b` is no pattern");
        assert_eq!(mistake("the name is empty"), "the name is empty");
    }
}
