//! What stands before several servers: one port, whose connections go to the first server that answers.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result};

/// A port of the loopback interface that leads to others; it listens as long as the process lives.
#[derive(Debug, Clone)]
pub struct Balancer {
    port: u16,
    targets: Arc<Mutex<Vec<u16>>>,
}

impl Balancer {
    /// Leads to these ports, in this order.
    pub fn start(targets: &[u16]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for both servers")?;
        let port = listener.local_addr()?.port();
        let targets = Arc::new(Mutex::new(targets.to_vec()));
        let known = Arc::clone(&targets);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let targets = known.lock().expect("nobody panics while holding it").clone();
                let connect = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).ok();
                if let Some(server) = targets.iter().find_map(connect) {
                    // One that cannot be set up is closed, as by a server that is gone.
                    let _ = join(&client, &server);
                }
            }
        });
        Ok(Self { port, targets })
    }

    /// Leads to this port as well, where the others do not answer.
    pub fn add(&self, target: u16) {
        self.targets.lock().expect("nobody panics while holding it").push(target);
    }

    /// Its own port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    for stream in [client, server] {
        stream.set_nodelay(true)?;
    }
    for (mut from, mut to) in
        [(client.try_clone()?, server.try_clone()?), (server.try_clone()?, client.try_clone()?)]
    {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            // The end of one direction is told; a connection that broke is broken on both sides.
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
