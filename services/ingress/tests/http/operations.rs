//! Every operation of both documents, and how one is asked as it stands on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;

use seckill_domain::VoucherId;
use seckill_ingress::openapi;
use serde_json::Value;

/// Nobody's.
const ORDER: &str = "00000000-0700-8000-8000-040000000001";

/// One operation of a document, with ids in its path.
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) has_body: bool,
}

pub(crate) fn public(voucher: VoucherId) -> Vec<Operation> {
    of(&openapi::public(), voucher)
}

pub(crate) fn admin(voucher: VoucherId) -> Vec<Operation> {
    of(&openapi::admin(), voucher)
}

fn of(document: &Value, voucher: VoucherId) -> Vec<Operation> {
    let of_path = |(path, methods): (&String, &Value)| {
        let path = path
            .replace("{voucher_id}", &voucher.to_string())
            .replace("{order_id}", ORDER)
            .replace("{partition}/{offset}", "0/0")
            .replace("/docs/{name}", "/docs/index.html")
            .replace("{name}", "app.css");
        assert!(!path.contains('{'), "{path}");
        let methods = methods.as_object().unwrap().clone();
        methods
            .into_iter()
            .map(move |(method, operation)| Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
                has_body: operation.get("requestBody").is_some(),
            })
    };
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(of_path).collect()
}

/// An answer as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// From the first line on, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// The answer to a request; `more` are lines of its head, each with its end, and a body behind an empty one.
pub(crate) fn ask(url: &str, method: &str, path: &str, more: &str) -> Answer {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let (head, body) = more.split_once("\r\n\r\n").unwrap_or((more, ""));
    let head = head.trim_end();
    let end = if head.is_empty() { "" } else { "\r\n" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}{end}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase() + "\r\n";
    Answer {
        status: head[9..12].parse().unwrap(),
        body: answer.split_off(end + 4),
        head,
    }
}
