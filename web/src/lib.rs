#![doc = include_str!("../README.md")]
//!
//! # Where things are
//! | module | content |
//! |---|---|
//! | `accept` | accepts connections, with TLS or without, and serves HTTP on each |
//! | `router` | which path leads where, and what stands before all of them |
//! | [`config`] | the settings |
//! | [`caller`] | who calls: the token, the address, the certificate |
//! | `callers` | a connection to the broker for each caller |
//! | [`upstream`] | the way to the broker |
//! | `guard` | which requests are refused before they reach a path |
//! | `problem` | errors as `application/problem+json` |
//! | `query` | what stands behind the question mark |
//! | `health` | `/healthz` and `/readyz` |
//! | `metrics` | `/metrics` |
//! | `api` | `/api/v1`, by subject |
//! | `openapi` | the description of `/api/v1` |
//! | `pages` | the dashboard, by subject |
//! | `places` | places for connections, and which one makes room |
//! | `asked` | the names and values of a query or a form |
//! | `visitor` | who looks at a page: the caller, and the session of a login |
//! | `sessions` | logins: a cookie for a token |
//! | `site` | where this server is for the browser: the prefix before each link |
//! | `live` | what the open pages of a caller look at, once a second together |
//! | `assets` | the script, the style and the icon |
//! | [`printable`] | text of strangers, safe to show |
//! | [`documents`] | what programs read as JSON |
//! | [`time`] | times and spans as programs and people write them |

mod accept;
mod api;
mod asked;
mod assets;
pub mod caller;
mod callers;
pub mod config;
pub mod documents;
mod guard;
mod health;
mod live;
mod metrics;
mod openapi;
mod pages;
mod places;
pub mod printable;
mod problem;
mod query;
mod router;
mod sessions;
mod site;
pub mod time;
pub mod upstream;
mod visitor;

pub use accept::{Secure, Secured, Stream, serve, serve_stream};
pub use openapi::document as openapi_document;
pub use router::Web;
