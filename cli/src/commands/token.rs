//! `celeriac token`: makes tokens, and checks an access file as the broker would read it. Neither
//! needs a broker.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_broker::{Access, AccessEntry, NewToken, Role};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::line::Text;
use crate::output::{Format, Output, print_to_stderr};
use crate::table::{ALWAYS, Column, Table};
use crate::time::{Moment, iso, ms, now_ms, parse_moment_or_span, whole_ms};
use celeriac_web::printable::clean;

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
    let new = NewToken::draw();
    let entry = entry(arguments, &new);
    // A mistake in a pattern shows now, and not when the broker reads the entry.
    Access::check_text(&entry).map_err(|error| Failure::usage(error.to_string()))?;
    match output.format {
        Format::Json => output.document(&NewDocument { token: &new.token, entry: &entry })?,
        Format::Text => output.line(&format!("{}\n\n{}", new.token, entry.trim_end()))?,
    }
    Ok(Exit::Success)
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
    match output.format {
        Format::Json => {
            for entry in &report.entries {
                output.document(&document(entry))?;
            }
        }
        Format::Text => output.table(&table(&report.entries))?,
    }
    Ok(Exit::Success)
}

fn document(entry: &AccessEntry) -> EntryDocument<'_> {
    EntryDocument {
        name: &entry.name,
        key: &entry.key,
        roles: entry.roles.iter().map(|role| role.name()).collect(),
        expires: entry.expires.as_deref(),
        expired: entry.is_expired,
        line: entry.line,
    }
}

fn table(entries: &[AccessEntry]) -> Table {
    let mut table = Table::new(&[
        Column::word("NAME", ALWAYS),
        Column::word("KEY", ALWAYS),
        Column::word("ROLES", ALWAYS),
        Column::word("EXPIRES", ALWAYS),
        Column::number("LINE", ALWAYS),
    ]);
    for entry in entries {
        let roles: Vec<&str> = entry.roles.iter().map(|role| role.name()).collect();
        let expires = match (&entry.expires, entry.is_expired) {
            (None, _) => "never".to_owned(),
            (Some(at), true) => format!("{at} (expired)"),
            (Some(at), false) => at.clone(),
        };
        table.push(vec![
            Text::from(clean(&entry.name)),
            Text::from(clean(&entry.key)),
            Text::from(roles.join(", ")),
            Text::from(expires),
            Text::from(entry.line.to_string()),
        ]);
    }
    table
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text)
        .ok_or_else(|| "the roles are producer, worker, reader and operator".to_owned())
}
