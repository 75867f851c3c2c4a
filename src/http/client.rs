//! Asks a Firstlight on this machine how it is, as any client could.

use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use smol::{Async, Timer, future};
use smol_hyper::rt::FuturesIo;

/// How long an answer may take: a healthy device needs milliseconds, a busy one less than this.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest body read; the status document has a few KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The answer to `GET path`.
///
/// # Errors
/// Nobody listens, what answers does not speak HTTP, or the answer is late or too long.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<Response<Bytes>> {
    let late = async {
        Timer::after(ANSWER_TIME_MAX).await;
        Err(Error::new(ErrorKind::TimedOut, format!("no answer within {} s", ANSWER_TIME_MAX.as_secs())))
    };
    smol::block_on(future::or(ask(address, path), late))
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<Response<Bytes>> {
    let socket = Async::<TcpStream>::connect(address).await?;
    let (mut sender, connection) = http1::handshake(FuturesIo::new(socket)).await.map_err(Error::other)?;
    let exchange = async {
        let request = Request::get(path).header(header::HOST, address.to_string());
        let request = request.body(Empty::<Bytes>::new()).map_err(Error::other)?;
        let answer = sender.send_request(request).await.map_err(Error::other)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(Error::other)?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    let broken = async {
        match connection.await {
            Ok(()) => future::pending().await,
            Err(error) => Err(Error::other(error)),
        }
    };
    future::or(exchange, broken).await
}
