//! The load generator against a server that answers, and one that hangs up.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use seckill_bench::client::Endpoint;
use seckill_bench::load::{Calls, Load, Pace, Reply, Run};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Calls `/0`, `/1` and so on.
struct Numbered {
    endpoint: Arc<Endpoint>,
    calls: usize,
}

impl Calls for Numbered {
    type Answer = Option<(u16, String)>;

    fn len(&self) -> usize {
        self.calls
    }

    fn write(&self, index: usize, request: &mut Vec<u8>) {
        let head = self.endpoint.request_head("POST", &format!("/{index}"));
        request.extend_from_slice(&head);
        request.extend_from_slice(b"\r\n");
    }

    fn answer(&self, _index: usize, reply: Option<&Reply<'_>>) -> Self::Answer {
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        reply.map(|reply| (reply.status, text(reply.body)))
    }
}

/// What the server does beside answering.
#[derive(Clone, Copy)]
struct Server {
    /// Which calls it hangs up on.
    hangs_up: fn(usize) -> bool,
    /// How long it lets the first call of each connection wait.
    first_after: Duration,
}

/// Answers each request with its path.
async fn serve(stream: TcpStream, server: Server) {
    let mut first_after = Some(server.first_after);
    let mut stream = BufReader::new(stream);
    let mut number = None;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap() == 0 {
            return;
        }
        if let Some(path) = line.strip_prefix("POST /") {
            number = path.split(' ').next().unwrap().parse().ok();
        }
        if line == "\r\n" {
            let number: usize = number.take().unwrap();
            if (server.hangs_up)(number) {
                return;
            }
            tokio::time::sleep(first_after.take().unwrap_or_default()).await;
            let body = number.to_string();
            let length = body.len();
            let answer = format!("HTTP/1.1 202 Accepted\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

type Answers = Vec<Option<(u16, String)>>;

async fn run(calls: usize, hangs_up: fn(usize) -> bool) -> Answers {
    let server = Server {
        hangs_up,
        first_after: Duration::ZERO,
    };
    let run = run_at(Pace::WhenAnswered, calls, server).await;
    let mut answers = vec![None; calls];
    for sample in run.samples {
        answers[sample.index] = sample.answer;
    }
    answers
}

async fn run_at(pace: Pace, calls: usize, behaviour: Server) -> Run<Option<(u16, String)>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, behaviour));
        }
    });
    let endpoint = Endpoint::resolve(&url).await.unwrap();
    let load = Load {
        endpoint: Arc::clone(&endpoint),
        connections: 4,
        pace,
        stop_after: Duration::from_secs(60),
        bar: ProgressBar::hidden(),
    };
    let run = load
        .run(Arc::new(Numbered { endpoint, calls }))
        .await
        .unwrap();
    server.abort();
    assert_eq!(run.samples.len(), calls, "every call is made once");
    run
}

#[tokio::test]
async fn every_call_gets_its_own_answer() {
    for (index, answer) in run(100, |_| false).await.into_iter().enumerate() {
        assert_eq!(answer, Some((202, index.to_string())));
    }
}

#[tokio::test]
async fn a_lost_connection_costs_one_answer_and_is_replaced() {
    for (index, answer) in run(100, |number| number % 5 == 0)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(answer.is_none(), index % 5 == 0, "{index}");
    }
}

#[tokio::test]
async fn at_a_pace_a_call_that_finds_no_connection_free_has_waited_since_its_moment() {
    let server = Server {
        hangs_up: |_| false,
        first_after: Duration::from_millis(300),
    };
    let run = run_at(Pace::PerSecond(100.0), 40, server).await;
    // The last begins 390 ms after the first.
    assert!(run.elapsed >= Duration::from_millis(390), "{run:?}");
    // Four connections are taken for 300 ms: the tenth call, of 100 ms, has to wait for one of them.
    let tenth = run.samples.iter().find(|sample| sample.index == 10);
    assert!(
        tenth.unwrap().latency >= Duration::from_millis(200),
        "{run:?}"
    );
}
