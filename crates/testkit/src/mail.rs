//! A mail sink: an SMTP server that accepts every message, stores it as a file, and forwards nothing.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::scratch::scratch_dir;

/// A client that sends nothing for this long is disconnected.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const MESSAGE_MAX_BYTES: usize = 1024 * 1024;

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// Headers and body as they were received, with LF at the end of each line.
    pub text: String,
}

impl Mail {
    /// The first run of exactly `digits` decimal digits in its body.
    #[must_use]
    pub fn number(&self, digits: usize) -> Option<&str> {
        let (_, body) = self.text.split_once("\n\n")?;
        body.split(|c: char| !c.is_ascii_digit())
            .find(|run| run.len() == digits)
    }
}

/// A sink for one test, on a free port. It ends with its process.
#[derive(Debug)]
pub struct MailSink {
    port: u16,
    directory: TempDir,
}

impl MailSink {
    /// Starts one.
    ///
    /// # Errors
    /// When no port or directory is to be had.
    pub fn start() -> Result<Self> {
        let directory = scratch_dir("mail")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let path = directory.path().to_owned();
        thread::spawn(move || serve(&listener, &path));
        Ok(Self { port, directory })
    }

    /// `smtp://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Everything that arrived for an address, the oldest first.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn mails_to(&self, address: &str) -> Result<Vec<Mail>> {
        mails_to(self.directory.path(), address)
    }
}

/// `smtp://127.0.0.1:<port>`.
#[must_use]
pub fn url(port: u16) -> String {
    format!("smtp://127.0.0.1:{port}")
}

/// Serves without an end. Each message becomes a file `<number>.eml` in `directory`, which has to exist. The first line
/// of the file names the envelope's recipients.
pub fn serve(listener: &TcpListener, directory: &Path) {
    let next = Arc::new(AtomicU64::new(count(directory)));
    for stream in listener.incoming().flatten() {
        let (directory, next) = (directory.to_owned(), Arc::clone(&next));
        thread::spawn(move || {
            if let Err(error) = talk(&stream, &directory, &next) {
                eprintln!("mail sink: {error}");
            }
        });
    }
}

/// Everything in a sink's directory that arrived for an address, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn mails_to(directory: &Path, address: &str) -> Result<Vec<Mail>> {
    let listed =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in listed {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "eml") {
            files.push(path);
        }
    }
    files.sort();
    let mut mails = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let mail = parse(&text).with_context(|| format!("{} is no mail", file.display()))?;
        if mail.to.iter().any(|to| to == address) {
            mails.push(mail);
        }
    }
    Ok(mails)
}

fn parse(file: &str) -> Option<Mail> {
    let (first, text) = file.split_once('\n')?;
    let to = first.strip_prefix("X-Envelope-To: ")?;
    Some(Mail {
        to: to.split(' ').map(str::to_owned).collect(),
        text: text.to_owned(),
    })
}

/// The number of messages in the directory, from which a restarted sink continues to count.
fn count(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).map_or(0, Iterator::count);
    u64::try_from(files).unwrap_or(0)
}

/// One SMTP session (RFC 5321), as far as a client needs it to send mail.
fn talk(stream: &TcpStream, directory: &Path, next: &AtomicU64) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut reader = BufReader::new(stream);
    let say = |line: &str| -> io::Result<()> {
        let mut stream = stream;
        stream.write_all(format!("{line}\r\n").as_bytes())
    };
    say("220 mail sink")?;
    let mut to: Vec<String> = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let command = line.trim_end();
        let verb = command.split([' ', ':']).next().unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" | "NOOP" => say("250 mail sink")?,
            "MAIL" | "RSET" => {
                to.clear();
                say("250 ok")?;
            }
            "RCPT" => {
                to.extend(recipient(command));
                say("250 ok")?;
            }
            "DATA" => {
                say("354 go on")?;
                let text = read_message(&mut reader)?;
                keep(directory, next, &to, &text)?;
                to.clear();
                say("250 kept")?;
            }
            "QUIT" => return say("221 bye"),
            _ => say("502 not here")?,
        }
    }
}

fn recipient(command: &str) -> Option<String> {
    let (_, rest) = command.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    Some(address.to_owned())
}

/// Reads a message up to the line with a single dot (RFC 5321, 4.5.2).
fn read_message(reader: &mut impl BufRead) -> io::Result<String> {
    let (mut text, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let content = line.trim_end_matches(['\r', '\n']);
        if content == "." {
            return Ok(text);
        }
        text.push_str(content.strip_prefix('.').unwrap_or(content));
        text.push('\n');
        if text.len() > MESSAGE_MAX_BYTES {
            return Err(io::Error::other("a message is too long"));
        }
    }
}

/// Stores a message with an atomic rename, because readers may read the directory at any time.
fn keep(directory: &Path, next: &AtomicU64, to: &[String], text: &str) -> io::Result<()> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    let file: PathBuf = directory.join(format!("{number:08}.eml"));
    let partial = file.with_extension("partial");
    let mut options = File::options();
    // A mail contains a code to sign in, so only the owner may read it.
    let mut mail = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    mail.write_all(format!("X-Envelope-To: {}\n{text}", to.join(" ")).as_bytes())?;
    fs::rename(&partial, &file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn send(sink: &MailSink, to: &str, body: &str) {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, sink.port)).unwrap();
        let mut reader = BufReader::new(&stream);
        let mut expect = |code: &str| {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert!(line.starts_with(code), "{line}");
        };
        expect("220");
        for (line, code) in [
            ("EHLO me", "250"),
            ("MAIL FROM:<a@b>", "250"),
            (&format!("RCPT TO:<{to}>"), "250"),
            ("DATA", "354"),
            (&format!("Subject: x\r\n\r\n{body}\r\n."), "250"),
            ("QUIT", "221"),
        ] {
            (&stream)
                .write_all(format!("{line}\r\n").as_bytes())
                .unwrap();
            expect(code);
        }
    }

    #[test]
    fn a_mail_is_kept_and_found_by_its_recipient() {
        let sink = MailSink::start().unwrap();
        send(
            &sink,
            "ada@example.com",
            "at 12:30 the code is 123456\r\n..dot",
        );
        send(&sink, "bob@example.com", "none");
        let mails = sink.mails_to("ada@example.com").unwrap();
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].number(6), Some("123456"));
        assert!(mails[0].text.ends_with("\n.dot\n"), "{}", mails[0].text);
        assert!(sink.mails_to("eve@example.com").unwrap().is_empty());
    }

    #[test]
    fn a_mail_is_its_owners_alone() {
        let sink = MailSink::start().unwrap();
        send(&sink, "ada@example.com", "the code is 123456");
        let files: Vec<_> = fs::read_dir(sink.directory.path()).unwrap().collect();
        assert_eq!(files.len(), 1);
        for file in files {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
