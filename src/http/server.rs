//! The thread that accepts clients and keeps them within bounds.
//!
//! One OS thread named `http` runs all connections on a `smol` executor of its own. It never waits on the loop, on a
//! sink or on a client: a full house drops whoever has been silent longest, and stopping it takes one wake-up.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender};
use smol::stream::StreamExt;
use smol::{Async, LocalExecutor, Task, Timer, future};

use super::Error;
use super::connection::{self, CONNECTIONS_MAX, HEAD_BYTES_MAX, Meter, SWEEP_EVERY};
use super::routes::Routes;
use crate::pipeline::telemetry::{Part, Telemetry};

/// Pause after a failed accept (no descriptors left, usually), so that trouble does not take a whole core.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(200);

/// What a client gets when every connection is busy. Written whole or not at all: nobody waits for it.
const FULL_HOUSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    access-control-allow-origin: *\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 45\r\n\r\n\
    {\"message\":\"too many connections, try later\"}";

/// The status port. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    /// Its closing is the sign to stop.
    running: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `listen` and starts serving; clients can connect when this returns. Port 0 takes any free one.
    ///
    /// # Errors
    /// [`Error::Bind`] when the address cannot be had, [`Error::Thread`] when the system gives no thread.
    pub fn start(listen: SocketAddr, routes: Routes) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).map_err(bind)?;
        let local_addr = listener.local_addr().map_err(bind)?;
        let listener = Async::new(listener).map_err(bind)?;
        let (running, stop) = smol::channel::bounded(1);
        let telemetry = routes.telemetry().clone();
        let serve = move || {
            let serve = AssertUnwindSafe(|| run(&listener, &stop, routes));
            if catch_unwind(serve).is_err() {
                // The device goes on seeing without its status port, and says so where it still can.
                telemetry.set_problem(Part::Http, Some("the status port ended by a defect".to_owned()));
            }
        };
        let thread = thread::Builder::new().name("http".to_owned()).spawn(serve).map_err(Error::Thread)?;
        Ok(Self { local_addr, running: Some(running), thread: Some(thread) })
    }

    /// The address in use, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Closes the port and every connection, and returns when the thread has ended.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            // Joining is bounded: the thread runs no blocking call, so it sees the closed channel at its next poll.
            let _ = thread.join();
        }
    }
}

/// A connection being served.
struct Client {
    meter: Rc<Meter>,
    task: Task<()>,
}

/// What the accept loop woke up for.
enum Event {
    Accepted(std::io::Result<(Async<TcpStream>, SocketAddr)>),
    Sweep,
    Stop,
}

fn run(listener: &Async<TcpListener>, stop: &Receiver<Infallible>, routes: Routes) {
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(accept(&executor, listener, stop, Rc::new(routes))));
}

async fn accept<'e>(
    executor: &LocalExecutor<'e>,
    listener: &Async<TcpListener>,
    stop: &Receiver<Infallible>,
    routes: Rc<Routes>,
) {
    let mut clients: Vec<Client> = Vec::with_capacity(CONNECTIONS_MAX);
    let mut sweep = Timer::interval(SWEEP_EVERY);
    let mut accept_fails = false;
    loop {
        let stopped = async {
            let _ = stop.recv().await;
            Event::Stop
        };
        let accepted = async { Event::Accepted(listener.accept().await) };
        let swept = async {
            sweep.next().await;
            Event::Sweep
        };
        match future::or(stopped, future::or(swept, accepted)).await {
            Event::Stop => return,
            Event::Sweep => {
                let now = Instant::now();
                clients.retain(|client| !client.task.is_finished() && !client.meter.overdue(now));
            }
            Event::Accepted(Ok((socket, _))) => {
                admit(executor, &mut clients, socket, &routes);
                report(routes.telemetry(), &mut accept_fails, None);
                // Under a flood of connections the ones already here get their turn.
                future::yield_now().await;
            }
            Event::Accepted(Err(error)) => {
                report(routes.telemetry(), &mut accept_fails, Some(&error));
                let pause = async {
                    Timer::after(ACCEPT_RETRY_AFTER).await;
                };
                let stopped = async {
                    let _ = stop.recv().await;
                };
                future::or(stopped, pause).await;
            }
        }
    }
}

/// Serves a new client. In a full house the one that has let us wait longest makes room; if all are being answered,
/// the new one is refused.
fn admit<'e>(executor: &LocalExecutor<'e>, clients: &mut Vec<Client>, socket: Async<TcpStream>, routes: &Rc<Routes>) {
    clients.retain(|client| !client.task.is_finished());
    if clients.len() >= CONNECTIONS_MAX {
        let waiting = clients.iter().enumerate().filter_map(|(i, client)| Some((client.meter.waiting_since()?, i)));
        let Some((_, longest)) = waiting.min() else {
            refuse(socket.get_ref());
            return;
        };
        clients.swap_remove(longest);
    }
    // Answers are single writes, so waiting to fill a packet (Nagle) would only delay them.
    let _ = socket.get_ref().set_nodelay(true);
    let (meter, serving) = connection::serve(socket, routes.clone());
    clients.push(Client { meter, task: executor.spawn(serving) });
}

/// Says 503 without waiting. What the client has already sent is read first, for closing a socket with unread bytes
/// resets the connection and may cost the client the answer.
fn refuse(mut socket: &TcpStream) {
    let _ = socket.read(&mut [0; HEAD_BYTES_MAX]);
    let _ = socket.write(FULL_HOUSE);
}

/// Tells the device's health about accepting, at its changes only: healthy accepts must not touch shared cells.
fn report(telemetry: &Arc<Telemetry>, failing: &mut bool, error: Option<&std::io::Error>) {
    if error.is_some() || *failing {
        telemetry.set_problem(Part::Http, error.map(|error| format!("cannot accept connections: {error}")));
    }
    *failing = error.is_some();
}
