//! MESSAGES. Pure: bytes to values and back, over any ordered byte stream.
//!
//! A connection opens with [`hello`], then carries frames ([`codec`]): of [`client`] requests and replies,
//! or of [`worker`] orders and reports; [`join`] is what newcomers say, [`peer`] what the nodes of
//! a job say to each other, [`pmix`] what a shepherd and the process that serves its ranks do. Nothing here knows a socket. Sizes are bounded before anything is
//! allocated; bytes that do not decode are errors, never assertions.

mod bytes;
pub mod client;
pub mod codec;
pub mod hello;
pub mod join;
pub mod older;
pub mod peer;
pub mod pmix;
pub mod shepherd;
pub mod spawner;
pub mod view;
pub mod worker;
