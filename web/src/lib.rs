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
//! | [`documents`] | what programs read as JSON |
//! | [`time`] | times and spans as programs and people write them |

mod accept;
mod api;
pub mod caller;
mod callers;
pub mod config;
pub mod documents;
mod guard;
mod health;
mod metrics;
mod openapi;
mod problem;
mod query;
mod router;
pub mod time;
pub mod upstream;

pub use accept::{Secure, Secured, Stream, serve};
pub use openapi::document as openapi_document;
pub use router::Web;
