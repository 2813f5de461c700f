//! The sockets that a service manager has opened for the broker (`LISTEN_FDS`). They stay open
//! while the broker restarts, so no client is refused meanwhile.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use tokio::net;

use crate::exit::{Exit, Failure};

/// The names that the sockets have by `FileDescriptorName=` of a socket unit.
const NAME: &str = "celeriac";
const NAME_OF_PLAIN: &str = "celeriac-plain";
const NAME_OF_HTTP: &str = "celeriac-http";

/// The sockets that were handed over, in the place of the addresses of the settings.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) listener: Option<TcpListener>,
    pub(super) plain: Option<TcpListener>,
    pub(super) http: Option<TcpListener>,
}

impl Sockets {
    /// Takes the sockets of this process. Called once, before other files are opened.
    ///
    /// # Errors
    /// A socket that is none of TCP, or whose name does not say what it is for.
    pub(super) fn take() -> Result<Self, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut handed_over = ListenFd::from_env();
        let mut sockets = Self::default();
        for index in 0..handed_over.len() {
            // systemd names each of them. Other programs may hand over one without a name.
            let name = names.split(':').nth(index).filter(|name| !name.is_empty());
            let listener = handed_over.take_tcp_listener(index).map_err(|error| {
                let name = name.unwrap_or("without a name");
                Failure::usage(format!("the socket {name} of the service manager: {error}"))
            })?;
            let place =
                place_of(name, handed_over.len()).map_err(|name| Failure::usage(unknown(name)))?;
            let place = match place {
                Place::Listener => &mut sockets.listener,
                Place::Plain => &mut sockets.plain,
                Place::Http => &mut sockets.http,
            };
            if place.is_some() {
                return Err(Failure::usage(
                    "the service manager hands over two sockets for one address: \
                     the broker listens on one",
                ));
            }
            *place = listener;
        }
        Ok(sockets)
    }

    /// The addresses of the sockets: `listen` and `listen_plain`.
    pub(super) fn addresses(&self) -> [Option<SocketAddr>; 2] {
        [&self.listener, &self.plain]
            .map(|socket| socket.as_ref().and_then(|socket| socket.local_addr().ok()))
    }
}

/// Listens on the socket that was handed over, or on the address.
pub(super) async fn listen(
    socket: Option<TcpListener>,
    address: SocketAddr,
) -> Result<net::TcpListener, Failure> {
    let listener = match socket {
        Some(socket) => {
            socket.set_nonblocking(true).and_then(|()| net::TcpListener::from_std(socket))
        }
        None => net::TcpListener::bind(address).await,
    };
    listener.map_err(|error| cannot_listen(address, &error))
}

pub(super) fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::new(Exit::Address, format!("cannot listen on {address}: {error}"))
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Listener,
    Plain,
    Http,
}

/// What a socket is for. The error is the name that says nothing.
fn place_of(name: Option<&str>, count: usize) -> Result<Place, &str> {
    match name {
        Some(NAME) => Ok(Place::Listener),
        Some(NAME_OF_PLAIN) => Ok(Place::Plain),
        Some(NAME_OF_HTTP) => Ok(Place::Http),
        // Without a name of its own a socket has the name of its unit, or none.
        _ if count == 1 => Ok(Place::Listener),
        name => Err(name.unwrap_or_default()),
    }
}

fn unknown(name: &str) -> String {
    format!(
        "the service manager hands over a socket with the name `{name}`: \
         give it FileDescriptorName={NAME}, {NAME_OF_PLAIN} or {NAME_OF_HTTP}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_for_what_its_name_says_and_a_single_one_needs_none() {
        assert_eq!(place_of(Some("celeriac"), 2), Ok(Place::Listener));
        assert_eq!(place_of(Some("celeriac-plain"), 1), Ok(Place::Plain));
        assert_eq!(place_of(None, 1), Ok(Place::Listener));
        assert_eq!(place_of(Some("celeriac.socket"), 1), Ok(Place::Listener));
        assert_eq!(place_of(Some("celeriac-http"), 2), Ok(Place::Http));
        assert_eq!(place_of(Some("celeriac-web"), 2), Err("celeriac-web"));
        assert_eq!(place_of(None, 2), Err(""));
    }
}
