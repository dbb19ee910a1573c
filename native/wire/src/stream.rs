//! The byte stream below every connection, and the only place that opens or accepts one: TCP today. Who connects, how
//! long that may take, and what a socket is tuned to stands here and nowhere else, so that another transport changes
//! this file alone. Plain types, because frames are written and read through them a hundred thousand times a second.

#![allow(clippy::disallowed_types)] // Disallowed everywhere else.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use tokio::io::BufReader;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Read ahead by one connection, in bytes: many small frames a system call. Payloads go around it.
const READ_AHEAD: usize = 32 << 10;
/// A peer whose machine vanished is noticed without waiting for the kernel's two hours.
const IDLE_BEFORE_PROBE: Duration = Duration::from_secs(5);
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;
/// Bytes that the other side's kernel does not confirm for this long end the connection.
const UNCONFIRMED: Duration = Duration::from_secs(10);

/// The receiving half.
pub(crate) type Reader = BufReader<OwnedReadHalf>;

/// The sending half; never blocks.
pub(crate) struct Writer(OwnedWriteHalf);

impl Writer {
    /// Write what fits now of the first bytes of `pieces`; `WouldBlock` when nothing does.
    pub(crate) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// End both directions, at the other side too.
    pub(crate) fn shutdown(&self) {
        let _ = socket2::SockRef::from(self.0.as_ref()).shutdown(Shutdown::Both);
    }
}

/// Connect to `address`, host:port.
pub(crate) async fn connect(address: &str, deadline: Deadline) -> Result<(Reader, Writer)> {
    let allowed = deadline.left();
    let stream = tokio::time::timeout(allowed, TcpStream::connect(address))
        .await
        .map_err(|_| Error::unavailable(format!("no answer from {address} within {allowed:?}")))?
        .map_err(|error| Error::from(error).context(format!("connecting to {address}")))?;
    opened(stream)
}

pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) async fn bind(address: &str) -> Result<Listener> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let mend = match error.kind() {
                io::ErrorKind::AddrInUse => "; end the process that holds it, or choose another port",
                _ => "",
            };
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            Error::new(ErrorKind::Unavailable, errno, format!("cannot listen on {address}: {error}{mend}"))
        })?;
        Ok(Listener(listener))
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        let (stream, address) = self.0.accept().await?;
        Ok(Accepted { stream, address })
    }
}

/// Somebody connected; nothing was read or written yet.
pub(crate) struct Accepted {
    stream: TcpStream,
    pub(crate) address: SocketAddr,
}

impl Accepted {
    pub(crate) fn open(self) -> Result<(Reader, Writer)> {
        opened(self.stream)
    }
}

fn opened(stream: TcpStream) -> Result<(Reader, Writer)> {
    tune(&stream)?;
    let (reader, writer) = stream.into_split();
    Ok((BufReader::with_capacity(READ_AHEAD, reader), Writer(writer)))
}

fn tune(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new();
    socket
        .set_tcp_keepalive(&keepalive.with_time(IDLE_BEFORE_PROBE).with_interval(PROBE_EVERY).with_retries(PROBES))?;
    socket.set_tcp_user_timeout(Some(UNCONFIRMED))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ends_send_at_once_and_notice_a_vanished_machine() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.address().unwrap().to_string();
        let deadline = Deadline::after(Duration::from_secs(5));
        let (connected, accepted) = tokio::join!(connect(&address, deadline), listener.accept());
        let ends = [connected.unwrap(), accepted.unwrap().open().unwrap()];
        for (_, writer) in &ends {
            let socket = socket2::SockRef::from(writer.0.as_ref());
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), IDLE_BEFORE_PROBE);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNCONFIRMED));
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused_with_what_to_do() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let error = Listener::bind(&listener.address().unwrap().to_string()).await.err().unwrap();
        assert_eq!(error.errno, libc::EADDRINUSE);
        assert!(error.message.contains("choose another port"), "{error}");
    }
}
