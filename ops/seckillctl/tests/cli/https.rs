//! An admin listener behind TLS: whom its token goes to. The server is OpenSSL's, which answers with a file.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use seckill_testkit::ports::free_port;
use seckill_testkit::tls::{Authority, Certificate};
use serde_json::json;
use tempfile::TempDir;

use crate::{seckillctl, stderr, stdout};

const TOKEN: &str = "a token that only the right server may see";

struct Server {
    process: Child,
    port: u16,
    _files: TempDir,
}

impl Server {
    fn start(certificate: &Certificate) -> Self {
        let files = tempfile::tempdir().unwrap();
        let ledger = files.path().join("admin/v1/vouchers/17");
        fs::create_dir_all(&ledger).unwrap();
        let body = json!({
            "initial": 10, "adjusted": 0, "available": 10, "unpaid": 0, "paid": 0, "held": 0,
            "redis_available": 10, "in_flight": 0, "drift": 0, "consistent": true,
        });
        fs::write(ledger.join("ledger"), body.to_string()).unwrap();
        let port = free_port().unwrap();
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-WWW", "-accept", &port.to_string()])
            // The look at whether it listens, and a client.
            .args(["-naccept", "2"])
            .arg("-cert")
            .arg(&certificate.certificate)
            .arg("-key")
            .arg(&certificate.key)
            .current_dir(&files)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let process = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            process,
            port,
            _files: files,
        }
    }

    fn show(&self, ca: &Path) -> Output {
        show(&self.url(), ca)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Whether the one client that came asked it for something. The server ends after that.
    fn was_asked(mut self) -> bool {
        let mut said = String::new();
        let mut log = self.process.stderr.take().unwrap();
        log.read_to_string(&mut said).unwrap();
        self.process.wait().unwrap();
        said.contains("FILE:")
    }
}

impl Drop for Server {
    /// A test that fails before its client came leaves no process behind.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn show(url: &str, ca: &Path) -> Output {
    seckillctl(
        &["sale", "show", "17"],
        &[
            ("INGRESS_ADMIN_URL", url),
            ("INGRESS_ADMIN_SSL_CA_LOCATION", ca.to_str().unwrap()),
            ("ADMIN_TOKEN", TOKEN),
        ],
    )
}

/// What is told, which is never the token.
fn refused(output: &Output, status: i32) -> String {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{told}");
    assert!(!told.contains(TOKEN), "{told}");
    told
}

#[test]
fn a_server_whose_signer_is_named_is_asked() {
    let authority = Authority::new().unwrap();
    let server = Server::start(&authority.issue("ingress").unwrap());
    let told = stdout(&server.show(&authority.ca()));
    assert!(told.contains("10"), "{told}");
    assert!(server.was_asked());
}

#[test]
fn without_a_named_signer_those_count_whom_the_system_trusts() {
    let authority = Authority::new().unwrap();
    let certificate = authority.issue("ingress").unwrap();
    let show = |server: &Server, settings: &[(&str, &str)]| {
        let url = server.url();
        let known = [("INGRESS_ADMIN_URL", &*url), ("ADMIN_TOKEN", TOKEN)];
        seckillctl(&["sale", "show", "17"], &[&known, settings].concat())
    };
    let server = Server::start(&certificate);
    assert!(refused(&show(&server, &[]), 1).contains("UnknownIssuer"));
    assert!(!server.was_asked());
    let server = Server::start(&certificate);
    // Where OpenSSL, and what follows its customs, looks instead of in the system's own store.
    let trusted = authority.ca();
    let system = [("SSL_CERT_FILE", trusted.to_str().unwrap())];
    let told = stdout(&show(&server, &system));
    assert!(told.contains("10"), "{told}");
    assert!(server.was_asked());
}

#[test]
fn one_of_another_signer_or_out_of_date_is_not_asked() {
    let (authority, another) = (Authority::new().unwrap(), Authority::new().unwrap());
    let expired = authority.issue_expired("expired").unwrap();
    let good = authority.issue("ingress").unwrap();
    for (certificate, ca, why) in [
        (&good, another.ca(), "UnknownIssuer"),
        (&expired, authority.ca(), "Expired"),
    ] {
        let server = Server::start(certificate);
        let told = refused(&server.show(&ca), 1);
        for part in [
            why,
            "nothing was asked for",
            "INGRESS_ADMIN_SSL_CA_LOCATION",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!server.was_asked(), "{why}");
    }
}

#[test]
fn a_server_without_tls_gets_no_token_over_https() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut seen = Vec::new();
        // It may be reset: what came before counts.
        let _ = stream.read_to_end(&mut seen);
        String::from_utf8_lossy(&seen).into_owned()
    });
    let authority = Authority::new().unwrap();
    let told = refused(&show(&url, &authority.ca()), 1);
    assert!(told.contains("TLS"), "{told}");
    assert!(!server.join().unwrap().contains(TOKEN));
}

#[test]
fn a_signer_without_https_and_a_file_without_certificates_are_refused() {
    let authority = Authority::new().unwrap();
    for (url, ca, why) in [
        (
            "http://127.0.0.1:1",
            authority.ca(),
            "has no use without an https URL",
        ),
        (
            "https://127.0.0.1:1",
            "/dev/null".into(),
            "/dev/null has no certificate",
        ),
    ] {
        let told = refused(&show(url, &ca), 2);
        let named = format!("INGRESS_ADMIN_SSL_CA_LOCATION cannot be used: {why}");
        assert!(told.contains(&named), "{named}: {told}");
    }
}
