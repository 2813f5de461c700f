//! Bytes as a conversation: connections come and go, ask, report and fall silent, time passes, the
//! broker restarts.

use celeriac_proto::wire::{ClientFrame, client_frame::Body};
use prost::Message;

use crate::input::Input;
use crate::shapes;
use crate::world::{PEERS, World};

/// Steps of one conversation: enough for a task to go through several lives.
const STEPS_MAX: usize = 400;

/// Plays the conversation. After each step the machine's books agree, and what it says can be
/// stored and sent.
pub fn request(bytes: &[u8]) {
    play(&mut World::new(), &mut Input::new(bytes));
}

/// What is left of the input, as steps.
pub(crate) fn play(world: &mut World, input: &mut Input<'_>) {
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        step(world, input);
    }
    world.finish();
}

fn step(world: &mut World, input: &mut Input<'_>) {
    let choice = input.byte();
    let peer = usize::from(choice >> 5) % PEERS;
    match choice & 31 {
        0..3 => world.pass(u64::from(input.byte()) * 20, 0),
        3 => world.pass(input.number(2) * 1_000, 0),
        4 => world.pass(1, i64::from(input.number(2) as i16) * 1_000),
        5 => world.pass_to_deadline(),
        6 => world.restart(input.below(3)),
        7 => world.disconnect(peer),
        8 => world.set_disk_low(input.one_in(2)),
        9 => raw(world, peer, input),
        10..14 => {
            let hello = shapes::hello(input, world.peer(peer), peer);
            world.frame(
                peer,
                ClientFrame { request_id: 1, timeout_ms: 0, body: Some(Body::Hello(hello)) },
            );
        }
        _ => {
            let frame = shapes::request(input, world.peer(peer));
            world.frame(peer, frame);
        }
    }
    // The driver applies what has come together before it lets the machine act.
    if !input.one_in(8) {
        world.tick();
    }
}

/// A frame of any bytes.
fn raw(world: &mut World, peer: usize, input: &mut Input<'_>) {
    let length = input.number(2) as usize;
    if let Ok(frame) = ClientFrame::decode(input.bytes(length)) {
        world.frame(peer, frame);
    }
}
