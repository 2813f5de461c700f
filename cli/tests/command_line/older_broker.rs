//! A broker that is older than a part of the protocol: it accepts every client, and gives every
//! request the same answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// The body of an answer: the request is not known.
pub(crate) const UNSUPPORTED: &[u8] = &[0x8a, 0x01, 2, 8, 3];

/// A Welcome of version 1 with a session, a heartbeat and a lease time.
const WELCOME: &[u8] = &[0x82, 0x01, 11, 8, 1, 0x22, 1, b's', 0x30, 0x88, 0x27, 0x38, 0x98, 0x75];

/// The address of a broker that answers every request with this body.
pub(crate) fn older_broker(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            // A client that has its answer closes the connection.
            let _ = serve(&mut connection.expect("accepted"), answer);
        }
    });
    address
}

/// The address of a broker that accepts every client, and says nothing after its Welcome.
pub(crate) fn broker_that_falls_silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut client = connection.expect("accepted");
            std::thread::spawn(move || {
                let hello = request_of(&mut client).expect("a Hello");
                answer(&mut client, hello, WELCOME).expect("it reads");
                while request_of(&mut client).is_ok() {}
            });
        }
    });
    address
}

fn serve(client: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let hello = request_of(client)?;
    answer(client, hello, WELCOME)?;
    loop {
        let id = request_of(client)?;
        answer(client, id, body)?;
    }
}

/// Reads a request, and returns its id.
fn request_of(client: &mut TcpStream) -> std::io::Result<u8> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut request = vec![0; u32::from_be_bytes(length) as usize];
    client.read_exact(&mut request)?;
    // The first field of a request is its id, which is small here.
    assert!(request[0] == 8 && request[1] < 128, "{request:?}");
    Ok(request[1])
}

fn answer(client: &mut TcpStream, id: u8, body: &[u8]) -> std::io::Result<()> {
    let frame = [&[8, id], body].concat();
    client.write_all(&[&(frame.len() as u32).to_be_bytes()[..], &frame].concat())
}
