//! A small HTTP server for the servers that tests imitate. It runs in threads of the test's process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

/// A request that the server has received.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Request {
    /// Reads a request to its end. A server that closes the connection earlier resets it.
    ///
    /// # Errors
    /// When the client closes the connection before that, or does not send HTTP.
    pub fn read(stream: &TcpStream) -> Result<Self> {
        let mut stream = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line)? > 0, "the client hung up");
            match line.trim() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut lines = lines.into_iter();
        let first = lines.next().context("an empty request")?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = words.next().zip(words.next()).context("no path")?;
        let split = |line: String| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        };
        let mut request = Self {
            method,
            path,
            body: Vec::new(),
            headers: lines.filter_map(split).collect(),
        };
        if let Some(length) = request.header("content-length") {
            request.body = vec![0; length.parse()?];
            stream.read_exact(&mut request.body)?;
        }
        Ok(request)
    }

    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known == name)?;
        Some(value)
    }
}

/// Writes the only answer on a connection.
///
/// # Errors
/// When the client has closed it.
pub fn answer(mut stream: &TcpStream, status: u16, body: &str) -> Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} \r\nContent-Length: {length}\r\nConnection: close");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    Ok(())
}

/// Answers requests until it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens on this port of the loopback interface, or on any free one (0). `respond` returns the status and the
    /// body of an answer.
    ///
    /// # Errors
    /// When the port is in use.
    pub fn start<F>(port: u16, respond: F) -> Result<Self>
    where
        F: Fn(Request) -> (u16, String) + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", port)).context("the server's port")?;
        let address = listener.local_addr()?;
        let (is_stopping, respond) = (Arc::new(AtomicBool::new(false)), Arc::new(respond));
        let stopping = Arc::clone(&is_stopping);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let respond = Arc::clone(&respond);
                // A client that is killed in the middle of its request must not block the others.
                std::thread::spawn(move || {
                    let (status, body) = respond(Request::read(&stream)?);
                    answer(&stream, status, &body)
                });
            }
        });
        Ok(Self {
            address,
            is_stopping,
            thread: Some(thread),
        })
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // The thread sees the flag when the next client connects. If it cannot be woken, it is not waited for.
        let is_woken = TcpStream::connect(self.address).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| is_woken)
            && thread.join().is_err()
        {
            eprintln!("the HTTP server of a test has panicked");
        }
    }
}
