//! The thread that accepts clients and keeps them within bounds.
//!
//! One OS thread named `http` runs all connections on a `smol` executor of its own. It never waits on the loop, on a
//! sink or on a client: a full house drops whoever has been silent longest, and stopping it takes one wake-up.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender};
use smol::stream::StreamExt;
use smol::{Async, LocalExecutor, Task, Timer, future};

use super::Error;
use super::connection::{self, Meter, SWEEP_EVERY};
use super::door::{self, Door, Kind};
use super::routes::Routes;
use crate::pipeline::telemetry::Part;
use crate::priority::give_way;
use crate::serving::PORT_NICE;

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
    /// Binds `listen`, unencrypted, and starts serving; clients can connect when this returns. Port 0 takes any free one.
    ///
    /// # Errors
    /// [`Error::Bind`] when the address cannot be had, [`Error::Thread`] when the system gives no thread.
    pub fn start(listen: SocketAddr, routes: Routes) -> Result<Self, Error> {
        Self::serve(vec![Door::open(listen, Kind::Plain)?], routes, None)
    }

    /// Starts serving at all `doors`. `problem` is what is wrong with one that is not among them: it is the device's as
    /// long as this server lives.
    ///
    /// # Errors
    /// [`Error::Thread`] when the system gives no thread.
    ///
    /// # Panics
    /// Without a door.
    pub fn serve(doors: Vec<Door>, routes: Routes, problem: Option<String>) -> Result<Self, Error> {
        let local_addr = doors.first().expect("a server has a door").local_addr();
        let (running, stop) = smol::channel::bounded(1);
        let telemetry = routes.telemetry().clone();
        telemetry.set_problem(Part::Http, problem.clone());
        let house = move || {
            give_way(PORT_NICE);
            let serve = AssertUnwindSafe(|| run(&doors, &stop, House { routes: Rc::new(routes), problem }));
            if catch_unwind(serve).is_err() {
                // The device goes on seeing without its status port, and says so where it still can.
                telemetry.set_problem(Part::Http, Some("the status port ended by a defect".to_owned()));
            }
        };
        let thread = crate::thread::spawn("http", house).map_err(Error::Thread)?;
        Ok(Self { local_addr, running: Some(running), thread: Some(thread) })
    }

    /// The address of the first door, with the real port.
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

/// What all doors share.
struct House {
    routes: Rc<Routes>,
    /// What is wrong as long as it stands.
    problem: Option<String>,
}

/// What an accept loop woke up for.
enum Event {
    Accepted(std::io::Result<(Async<TcpStream>, SocketAddr)>),
    Sweep,
}

fn run(doors: &[Door], stop: &Receiver<Infallible>, house: House) {
    let executor = LocalExecutor::new();
    let mut loops: Vec<_> = doors.iter().map(|door| Box::pin(accept(&executor, door, &house))).collect();
    let all = future::poll_fn(|cx| {
        for accepting in &mut loops {
            // None ever ends.
            let _: Poll<()> = Pin::as_mut(accepting).poll(cx);
        }
        Poll::Pending
    });
    let stopped = async {
        let _ = stop.recv().await;
    };
    smol::block_on(executor.run(future::or(stopped, all)));
}

/// Lets clients in at one door, for ever.
async fn accept<'e>(executor: &LocalExecutor<'e>, door: &Door, house: &House) {
    let mut clients: Vec<Client> = Vec::with_capacity(door.connections_max());
    let mut sweep = Timer::interval(SWEEP_EVERY);
    let mut accept_fails = false;
    loop {
        let accepted = async { Event::Accepted(door.listener.accept().await) };
        let swept = async {
            sweep.next().await;
            Event::Sweep
        };
        match future::or(swept, accepted).await {
            Event::Sweep => {
                let now = Instant::now();
                clients.retain(|client| !client.task.is_finished() && !client.meter.overdue(now));
            }
            Event::Accepted(Ok((socket, _))) => {
                admit(executor, &mut clients, socket, door, &house.routes);
                report(house, &mut accept_fails, None);
                // Under a flood of connections the ones already here get their turn.
                future::yield_now().await;
            }
            Event::Accepted(Err(error)) => {
                report(house, &mut accept_fails, Some(&error));
                Timer::after(ACCEPT_RETRY_AFTER).await;
            }
        }
    }
}

/// Serves a new client. In a full house the one that has let us wait longest makes room; if all are being answered,
/// the new one is refused.
fn admit<'e>(
    executor: &LocalExecutor<'e>,
    clients: &mut Vec<Client>,
    socket: Async<TcpStream>,
    door: &Door,
    routes: &Rc<Routes>,
) {
    clients.retain(|client| !client.task.is_finished());
    if clients.len() >= door.connections_max() {
        let waiting = clients.iter().enumerate().filter_map(|(i, client)| Some((client.meter.waiting_since()?, i)));
        let Some((_, longest)) = waiting.min() else {
            // Who waits for a handshake would not understand the words.
            if !matches!(door.kind, Kind::Tls(_)) {
                door::say_at_once(socket.get_ref(), FULL_HOUSE);
            }
            return;
        };
        clients.swap_remove(longest);
    }
    // Answers are single writes, so waiting to fill a packet (Nagle) would only delay them.
    let _ = socket.get_ref().set_nodelay(true);
    let (meter, serving) = connection::serve(socket, door.kind.clone(), routes.clone());
    clients.push(Client { meter, task: executor.spawn(serving) });
}

/// Tells the device's health about accepting, at its changes only: healthy accepts must not touch shared cells.
fn report(house: &House, failing: &mut bool, error: Option<&std::io::Error>) {
    if error.is_some() || *failing {
        let problem = error.map(|error| format!("cannot accept connections: {error}"));
        house.routes.telemetry().set_problem(Part::Http, problem.or_else(|| house.problem.clone()));
    }
    *failing = error.is_some();
}
