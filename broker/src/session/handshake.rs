//! The first frame of a connection. The broker checks the token before it reads the rest of a
//! Hello, and the connection takes a place only after that check.

use std::time::Duration;

use celeriac_machine::command::{Code, Connect, ConnectionKey, Refusal, RequestId};
use celeriac_proto::limits::PROTOCOL_VERSION;
use celeriac_proto::measure::measure;
use celeriac_proto::wire::{ClientFrame, client_frame};
use celeriac_proto::{FrameError, Opening};
use prost::Message;
use tokio::time::timeout;

use super::reader::{EndOfFrames, Reader};
use super::requests::measure_small;
use super::{Farewell, Incoming, Shared, decode, framing_refusal, too_slow};
use crate::access::{Access, Visitor};
use crate::config::TlsClient;
use crate::lobby::{Guest, Peer, Remote, Seat, Via};
use crate::tally::{NotLetIn, Tally};

/// A client has this long to send its token.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

/// After the token, a client has this long to send the rest of a long Hello.
const REST: Duration = Duration::from_secs(30);

/// A client that may have a session.
pub(super) struct Admitted {
    pub connect: Connect,
    /// `None`: the broker has no access file.
    pub visitor: Option<Visitor>,
    pub seat: Seat,
}

/// Whom the broker lets in.
#[derive(Clone)]
enum Gate {
    Everybody,
    /// Whoever sends this token.
    Token(Box<str>),
    /// Whoever the access list knows, by a token or by the names in a certificate.
    List {
        access: Access,
        identities: Vec<String>,
        peer: Remote,
    },
    /// The process around the broker, for the figures that everybody may read.
    Figures {
        access: Access,
        peer: Remote,
    },
}

impl Gate {
    /// The gate for this client. Where a certificate is optional, it takes the place of the token.
    fn of(shared: &Shared, peer: &Peer) -> Self {
        if let Some(access) = &shared.access {
            let (access, identities, peer) = (access.clone(), peer.identities.clone(), peer.remote);
            return match peer.via {
                Via::Figures => Self::Figures { access, peer },
                Via::Protocol | Via::Http => Self::List { access, identities, peer },
            };
        }
        let config = &shared.config;
        if peer.certificate.is_some() && config.tls_client == TlsClient::Optional {
            return Self::Everybody;
        }
        config.token.as_deref().map_or(Self::Everybody, |token| Self::Token(token.into()))
    }

    /// Lets a client with this token in, or not.
    fn admit(&self, token: &[u8]) -> Result<Option<Visitor>, Refusal> {
        let refused = |message: &str| Err(Refusal::new(Code::Unauthenticated, message));
        match self {
            Self::Everybody => Ok(None),
            Self::Token(secret) if same(secret.as_bytes(), token) => Ok(None),
            Self::Token(_) => refused("the token is missing or wrong"),
            Self::Figures { access, peer } => Ok(Some(access.admit_for_figures(*peer))),
            Self::List { access, identities, peer } => {
                match access.admit(token, identities, *peer) {
                    Some(visitor) => Ok(Some(visitor)),
                    None if token.is_empty() && !identities.is_empty() => {
                        refused("no entry of the access file names this certificate")
                    }
                    None => refused("the token is missing, wrong or expired"),
                }
            }
        }
    }

    /// Why this client, which is not let in, is not.
    fn why_not(&self, token: &[u8]) -> NotLetIn {
        match self {
            _ if !token.is_empty() => NotLetIn::TokenWrong,
            Self::List { identities, .. } if !identities.is_empty() => NotLetIn::Certificate,
            _ => NotLetIn::TokenMissing,
        }
    }
}

/// Reads and checks the first frame.
pub(super) async fn handshake(
    reader: &mut Reader<impl Incoming>,
    peer: &Peer,
    guest: &Guest,
    shared: &Shared,
) -> Result<Admitted, Farewell> {
    let gate = Gate::of(shared, peer);
    let late = |_| Farewell::refuse(Code::Handshake, "no Hello came in time");
    let opened = tokio::select! {
        opened = timeout(HANDSHAKE, opening(reader, &gate, &shared.tally)) => opened.map_err(late)?,
        () = guest.leave.cancelled() => {
            let message = "there are as many connections as allowed that have not said Hello, and this one was the oldest";
            return Err(Farewell::refuse(Code::Overloaded, message));
        }
    };
    let request = opened?;
    let seat = guest.seat().ok_or_else(|| {
        Farewell::Refusal(
            request,
            Refusal::new(Code::Overloaded, "there are as many connections as allowed"),
        )
    })?;
    let hello = hello(reader, guest.connection, &gate, shared);
    let (mut connect, visitor) = timeout(REST, hello).await.map_err(late)??;
    if let Some(visitor) = &visitor {
        let refused = |refusal| Farewell::Refusal(request, refusal);
        visitor.check_connect(&connect).map_err(refused)?;
        connect.entry = Some(visitor.name().clone());
        connect.scope = visitor.scope();
    }
    Ok(Admitted { connect, visitor, seat })
}

/// Checks that the first frame is a Hello with the right token. Returns the request id for the
/// answer.
async fn opening(
    reader: &mut Reader<impl Incoming>,
    gate: &Gate,
    tally: &Tally,
) -> Result<RequestId, Farewell> {
    let refuse =
        |request, code, message: &str| Err(Farewell::Refusal(request, Refusal::new(code, message)));
    match reader.opening().await.map_err(farewell)? {
        Opening::Hello { request_id, token } => match gate.admit(token) {
            Ok(_) => Ok(request_id),
            Err(refusal) => {
                tally.note_not_let_in(gate.why_not(token));
                Err(Farewell::Refusal(request_id, refusal))
            }
        },
        Opening::Other { request_id } => {
            refuse(request_id, Code::Handshake, "the first frame has to be Hello")
        }
        Opening::More | Opening::Malformed => {
            refuse(0, Code::Malformed, "a frame that is no message of this protocol")
        }
    }
}

type Opened = (Connect, Option<Visitor>);

/// Reads and checks the whole Hello.
async fn hello(
    reader: &mut Reader<impl Incoming>,
    connection: ConnectionKey,
    gate: &Gate,
    shared: &Shared,
) -> Result<Opened, Farewell> {
    let arrived = reader.next().await.map_err(farewell)?;
    let refused = |error: FrameError| Farewell::Refusal(0, framing_refusal(&error));
    let frame = arrived.frame;
    if measure_small(&frame).map_err(refused)?.is_some() {
        return decode_hello(&frame, connection, gate);
    }
    let gate = gate.clone();
    // The broker decodes one large frame at a time, here as after the handshake.
    let _turn = shared.turn.take(1, frame.len()).await;
    let decode = move || {
        measure::<ClientFrame>(&frame).map_err(|error| refused(error.into()))?;
        decode_hello(&frame, connection, &gate)
    };
    shared.decoding.run(decode).await
}

fn decode_hello(frame: &[u8], connection: ConnectionKey, gate: &Gate) -> Result<Opened, Farewell> {
    let malformed = |error| Farewell::Refusal(0, framing_refusal(&FrameError::Malformed(error)));
    let frame = ClientFrame::decode(frame).map_err(malformed)?;
    let request = frame.request_id;
    let refused = |refusal| Farewell::Refusal(request, refusal);
    let refuse = |code, message: &str| Err(refused(Refusal::new(code, message)));
    let Some(client_frame::Body::Hello(hello)) = frame.body else {
        return refuse(Code::Handshake, "the first frame has to be Hello");
    };
    if request == 0 {
        return refuse(Code::InvalidArgument, "request ids are above 0");
    }
    // If a field is present twice, the last one counts, but the first one was checked.
    let visitor = gate.admit(hello.token.as_bytes()).map_err(refused)?;
    if !(hello.protocol_min..=hello.protocol_max).contains(&PROTOCOL_VERSION) {
        return refuse(
            Code::VersionMismatch,
            &format!("this broker speaks version {PROTOCOL_VERSION}"),
        );
    }
    Ok((decode::hello(hello, connection, request).map_err(refused)?, visitor))
}

fn farewell(end: EndOfFrames) -> Farewell {
    match end {
        EndOfFrames::Closed | EndOfFrames::Broken(FrameError::Io(_)) => Farewell::Silence,
        EndOfFrames::Broken(FrameError::OtherProtocol("HTTP")) => Farewell::Http,
        EndOfFrames::Broken(FrameError::OtherProtocol("TLS")) => Farewell::Tls,
        // A client of another protocol could not read our answer.
        EndOfFrames::Broken(FrameError::OtherProtocol(_)) => Farewell::Silence,
        EndOfFrames::Broken(error) => Farewell::Refusal(0, framing_refusal(&error)),
        EndOfFrames::TooSlow => Farewell::Refusal(0, too_slow()),
    }
}

/// Compares secrets in a time that does not depend on the place of the first difference.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let differences = secret.iter().zip(given).fold(0, |differences, (a, b)| differences | (a ^ b));
    differences == 0 && secret.len() == given.len()
}
