//! A panic of a session ends its connection with a word, and nothing else. Without this file a
//! panic ended the half that reads alone: the other half kept the socket open, and the client
//! waited for ever. A panic of the driver is none of this file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use celeriac_machine::command::{Code, Refusal};

/// The work has panicked. The log has the panic already.
#[derive(Debug, PartialEq)]
pub(super) struct Panicked;

/// Does the work of a session, and returns also when it panics. The work has memory of its own,
/// which is given back when it ends.
pub(super) fn caught<T>(
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Panicked>> {
    let mut work = Box::pin(work);
    std::future::poll_fn(move |context| {
        // After a panic nobody looks at the work again.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_panic) => Poll::Ready(Err(Panicked)),
        }
    })
}

/// What the client is told.
pub(super) fn refusal() -> Refusal {
    let message = "a fault of the broker while it read a request of this connection: the broker's \
                   log says more";
    Refusal::new(Code::Internal, message)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use celeriac_proto::FrameCodec;
    use celeriac_proto::limits::PROTOCOL_VERSION;
    use celeriac_proto::wire::{
        ClientFrame, ErrorCode, Hello, ServerFrame, Submit, Task, client_frame, server_frame,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_util::codec::{Decoder, Encoder};

    use super::*;
    use crate::descriptors::Places;
    use crate::lobby::Peer;
    use crate::server::{Broker, Running};
    use crate::session::{Decoding, Shared};
    use crate::{Config, commit, session};

    type Codec = FrameCodec<ServerFrame, ClientFrame>;

    #[tokio::test]
    async fn a_panic_is_an_answer_also_after_a_pause() {
        let works = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(caught(works).await, Ok(7));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("for a test");
        };
        assert_eq!(caught(panics).await, Err::<(), _>(Panicked));
    }

    async fn send(stream: &mut DuplexStream, request_id: u64, body: client_frame::Body) {
        let mut bytes = bytes::BytesMut::new();
        let frame = ClientFrame { request_id, body: Some(body), ..ClientFrame::default() };
        Codec::new(usize::MAX).encode(frame, &mut bytes).expect("a frame can be encoded");
        stream.write_all(&bytes).await.expect("the session reads");
    }

    /// The next frame; `None` when the connection has ended.
    async fn receive(
        stream: &mut DuplexStream,
        bytes: &mut bytes::BytesMut,
    ) -> Option<ServerFrame> {
        let mut codec = Codec::new(usize::MAX);
        let next = async {
            loop {
                if let Some(frame) = codec.decode(bytes).expect("frames of the broker are whole") {
                    // The broker gives a sign of life to a client whose large frame waits.
                    if !matches!(frame.body, Some(server_frame::Body::HeartbeatReply(_))) {
                        return Some(frame);
                    }
                    continue;
                }
                if stream.read_buf(bytes).await.expect("the session answers") == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.expect("an answer comes in time")
    }

    /// A client of a session, whose broker panics at each large frame.
    async fn connected(shared: &std::sync::Arc<Shared>, connection: u64) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (read, write) = tokio::io::split(theirs);
        let guest = shared.lobby.enter(connection).await;
        let peer = Peer::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        tokio::spawn(session::run(read, write, peer, guest, shared.clone()));
        ours
    }

    fn hello(client_name: String) -> client_frame::Body {
        client_frame::Body::Hello(Hello {
            protocol_min: PROTOCOL_VERSION,
            protocol_max: PROTOCOL_VERSION,
            client_name,
            client_version: "1".to_owned(),
            instance_id: "test".to_owned(),
            ..Hello::default()
        })
    }

    #[tokio::test]
    async fn a_connection_whose_frame_makes_the_broker_panic_is_closed_with_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let broker = Broker::open(Config::new(folder.path())).await.expect("the folder is new");
        let places = Places { guests: 8, connections: 8 };
        let Running { shared, .. } =
            broker.start(places, Decoding::Panics, commit::start).expect("the broker starts");

        let mut bytes = bytes::BytesMut::new();
        let mut client = connected(&shared, 1).await;
        send(&mut client, 1, hello("test".to_owned())).await;
        let welcome = receive(&mut client, &mut bytes).await.expect("the broker answers");
        assert!(matches!(welcome.body, Some(server_frame::Body::Welcome(_))), "{welcome:?}");
        let task = Task { payload: vec![0; 200_000].into(), ..Task::default() };
        let submit = Submit { tasks: vec![task] };
        send(&mut client, 2, client_frame::Body::Submit(submit)).await;
        let told = receive(&mut client, &mut bytes).await.expect("the broker says why");
        let Some(server_frame::Body::Error(error)) = told.body else { panic!("{told:?}") };
        assert_eq!((told.request_id, error.code()), (0, ErrorCode::Internal));
        assert_eq!(receive(&mut client, &mut bytes).await, None);

        // Others go on, and so does the room for one large frame at a time.
        for connection in [2, 3] {
            let mut other = connected(&shared, connection).await;
            send(&mut other, 1, hello("test".to_owned())).await;
            let welcome = receive(&mut other, &mut bytes).await.expect("the broker answers");
            assert!(matches!(welcome.body, Some(server_frame::Body::Welcome(_))), "{welcome:?}");
            let task = Task { payload: vec![0; 200_000].into(), ..Task::default() };
            send(&mut other, 2, client_frame::Body::Submit(Submit { tasks: vec![task] })).await;
            let told = receive(&mut other, &mut bytes).await.expect("the broker says why");
            assert!(matches!(told.body, Some(server_frame::Body::Error(_))), "{told:?}");
            assert_eq!(receive(&mut other, &mut bytes).await, None);
        }
    }
}
