//! Ours and its peers, in turn: what is measured, with what, and what is made of it.

mod peers;
mod system;
