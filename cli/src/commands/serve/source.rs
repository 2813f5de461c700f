//! Where the settings of `serve` come from: flags and the environment of the process, and the files
//! that they name, which may be read again.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::config::{ConfigLayer, InvalidSetting, ServeConfig};
use super::config_file::ConfigFile;
use super::names::names_of;
use crate::exit::Failure;
use crate::token::{self, token_variable};

/// A valid configuration, and the warnings about it.
pub(super) struct Loaded {
    pub(super) config: ServeConfig,
    pub(super) warnings: Vec<String>,
}

/// The flags and the environment of this process, which name the files. It may hold a token.
pub(super) struct Source {
    pub(super) config: Option<PathBuf>,
    pub(super) layer: ConfigLayer,
    /// `listen` and `listen_plain`, where a service manager has opened their sockets.
    pub(super) addresses: [Option<SocketAddr>; 2],
    pub(super) matches: ArgMatches,
}

impl Source {
    /// Merges flags, environment, files and defaults, and checks the result. A reload does it
    /// again.
    ///
    /// # Errors
    /// The first setting that cannot be used, with its place.
    pub(super) fn load(&self) -> Result<Loaded, Failure> {
        let (mut layer, matches) = (self.layer.clone(), &self.matches);
        layer.token = token_variable()?;
        let given = matches.subcommand_matches("serve");
        let source = |name: &str| given.and_then(|given| given.value_source(name));
        layer.settle(source).map_err(|(name, exact)| {
            let given = |name| shown(name, source(name));
            Failure::usage(format!("{} and {} are both set, keep one", given(name), given(exact)))
        })?;
        let file = self.config.as_deref().map(ConfigFile::read).transpose()?;
        if let Some(file) = &file {
            layer = layer.over(file.parse()?);
        }
        let [listen, listen_plain] = self.addresses;
        layer.listen = listen.or(layer.listen);
        layer.listen_plain = listen_plain.or(layer.listen_plain);
        let token_file = layer.token_file.as_deref();
        let warnings =
            [file.as_ref().and_then(ConfigFile::warning), token_file.and_then(token::warning)];
        let warnings = warnings.into_iter().flatten().collect();
        let config = layer.resolve()?;
        config.check().map_err(|InvalidSetting { key, sentence }| {
            match origin(key, file.as_ref(), matches) {
                Some(origin) => Failure::usage(format!("{origin}: {sentence}")),
                None => Failure::usage(sentence),
            }
        })?;
        Ok(Loaded { config, warnings })
    }
}

/// Where a value comes from: the flag, the variable, or the line of the file. A default has no
/// origin.
fn origin(key: &str, file: Option<&ConfigFile>, matches: &ArgMatches) -> Option<String> {
    let flag = if key == "token" { "token_file" } else { key };
    let serve = matches.subcommand_matches("serve")?;
    for source in [ValueSource::CommandLine, ValueSource::EnvVariable] {
        let names = names_of(flag);
        if let Some(name) = names.iter().find(|name| serve.value_source(name) == Some(source)) {
            return Some(shown(name, Some(source)));
        }
    }
    if key == "token" && std::env::var_os("CELERIAC_TOKEN").is_some_and(|token| !token.is_empty()) {
        return Some("CELERIAC_TOKEN".to_owned());
    }
    names_of(key).into_iter().find_map(|name| file?.place(name))
}

/// The name of a setting as a flag, or as a variable.
fn shown(name: &str, source: Option<ValueSource>) -> String {
    match source {
        Some(ValueSource::EnvVariable) => format!("CELERIAC_{}", name.to_uppercase()),
        _ => format!("--{}", name.replace('_', "-")),
    }
}
