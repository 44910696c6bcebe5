//! A listener with a deadline for every state of a connection, whatever its client does.
//!
//! actix has a deadline for the first head of a connection and for the wait for the next one. It has none for a
//! later head that comes byte by byte, nor for a client that does not read its answers. Those connections are
//! closed here when nothing could be written to them for too long.

use std::fmt;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::error::DispatchError;
use actix_http::header::CONTENT_LENGTH;
use actix_http::{HttpService, Request, Response};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config,
};
use actix_web::Error;
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpSocket;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::body;
use crate::http::problem::Problem;

/// How long the first head of a connection may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to read a last answer and close, before the connection is reset.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The most connections that wait to be accepted: in a flash sale many come in the same second.
const BACKLOG: u32 = 1024;

/// How long a listener's connections and requests last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListenerOptions {
    /// How long a connection may wait for its next request.
    pub(crate) keep_alive: Duration,
    /// The longest that an answer may take once its request has arrived.
    pub(crate) answer: Duration,
    /// How long requests under way have when the listener stops, whole seconds.
    pub(crate) shutdown: Duration,
    /// Threads.
    pub(crate) workers: usize,
}

impl ListenerOptions {
    /// A client that does everything right has an answer, or a heartbeat of its stream, within this.
    fn silence(&self) -> Duration {
        self.keep_alive + HEAD_TIMEOUT + body::DEADLINE + self.answer
    }
}

/// Listens on `address` for requests to what `factory` makes, once a thread; port 0 takes any that is free.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) fn listen<F, I, S, B>(
    address: SocketAddr,
    options: ListenerOptions,
    factory: F,
) -> io::Result<(Server, SocketAddr)>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let listener = bind(address)?;
    let address = listener.local_addr()?;
    let builder = Server::build()
        .workers(options.workers)
        .shutdown_timeout(options.shutdown.as_secs())
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let builder = builder.listen("http", listener, move || {
        let stopping = stopping.clone();
        let app = factory().into_factory();
        let app = app.map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(options.keep_alive)
            .client_request_timeout(HEAD_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .local_addr(address)
            .expect(fn_service(expect))
            .h1(map_config(app, |()| AppConfig::default()));
        let silence = options.silence();
        fn_service(move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            ready(Ok::<_, DispatchError>((
                Watched::new(stream, silence),
                peer,
            )))
        })
        .and_then(http)
    })?;
    Ok((builder.run(), address))
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// A client that sends `Expect: 100-continue` with a body that is not needed is answered at once.
async fn expect(request: Request) -> Result<Request, Response<BoxBody>> {
    let length = request.head().headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > body::LIMIT_BYTES) {
        return Err(Problem::body_too_large(body::LIMIT_BYTES).respond().into());
    }
    Ok(request)
}

/// A connection that fails when nothing was written to it for too long.
struct Watched {
    stream: TcpStream,
    silence: Duration,
    written: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Watched {
    fn new(stream: TcpStream, silence: Duration) -> Self {
        let now = Instant::now();
        Self {
            stream,
            silence,
            written: now,
            alarm: Box::pin(sleep_until(now + silence)),
        }
    }

    /// A pending write stays pending until the silence is too long.
    fn pending<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let due = self.written + self.silence;
            if due <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(due);
        }
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => self.pending(cx),
            Poll::Ready(result) => {
                self.written = Instant::now();
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending => self.pending(cx),
            done => done,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
