//! Chromium and its driver.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_testkit::ports::free_port;
use seckill_testkit::scratch::scratch_dir;
use tempfile::TempDir;
use thirtyfour::ChromeCapabilities;
use thirtyfour::prelude::*;

const WAIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// As root Chromium needs the first; without the others it calls home at every start.
const ARGUMENTS: [&str; 9] = [
    "--no-sandbox",
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser of its own for one buyer: own storage, own tabs.
pub(crate) struct Browser {
    pub(crate) driver: WebDriver,
    server: Child,
    port: u16,
    /// What Chromium leaves lying about is in here.
    _scratch: TempDir,
}

impl Browser {
    pub(crate) async fn start(width: i64, height: i64) -> Result<Self> {
        let port = free_port()?;
        let scratch = scratch_dir("chromium")?;
        let server = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("TMPDIR", scratch.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver cannot be started: run `cargo xtask install`")?;
        // From here on it is ended with the value.
        let mut capabilities = ChromeCapabilities::new();
        for argument in ARGUMENTS {
            capabilities.add_arg(argument)?;
        }
        let driver = connect(port, &capabilities).await?;
        let browser = Self {
            driver,
            server,
            port,
            _scratch: scratch,
        };
        browser
            .driver
            .set_window_rect(0, 0, u32::try_from(width)?, u32::try_from(height)?)
            .await?;
        Ok(browser)
    }

    /// Waits until an element shows, and gives it.
    pub(crate) async fn shown(&self, css: &str) -> Result<WebElement> {
        let element = self.until(|| async {
            let element = self.driver.find(By::Css(css)).await?;
            Ok(element.is_displayed().await?.then_some(element))
        });
        element
            .await
            .with_context(|| format!("{css} does not show"))
    }

    /// Clicks what an XPath leads to.
    pub(crate) async fn press(&self, path: &str) -> Result<()> {
        let pressed = self.until(|| async {
            self.driver.find(By::XPath(path)).await?.click().await?;
            Ok(Some(()))
        });
        pressed
            .await
            .with_context(|| format!("{path} cannot be clicked"))
    }

    /// Chooses the option with this value.
    pub(crate) async fn choose(&self, css: &str, value: &str) -> Result<()> {
        let option = format!("{css} option[value={value}]");
        let chosen = self.until(|| async {
            self.driver.find(By::Css(&option)).await?.click().await?;
            Ok(Some(()))
        });
        chosen
            .await
            .with_context(|| format!("{option} cannot be chosen"))
    }

    /// Puts a text into a field in place of what is in it.
    pub(crate) async fn fill(&self, css: &str, text: impl AsRef<str>) -> Result<()> {
        let field = self.shown(css).await?;
        field.clear().await?;
        Ok(field.send_keys(text.as_ref()).await?)
    }

    /// As [`Self::fill`], and then the Enter key.
    pub(crate) async fn enter(&self, css: &str, text: &str) -> Result<()> {
        self.fill(css, text).await?;
        let field = self.shown(css).await?;
        Ok(field.send_keys(Key::Enter.value()).await?)
    }

    /// Waits until an element that is there does not show.
    pub(crate) async fn gone(&self, css: &str) -> Result<()> {
        let gone = self.until(|| async {
            let element = self.driver.find(By::Css(css)).await?;
            Ok((!element.is_displayed().await?).then_some(()))
        });
        gone.await.with_context(|| format!("{css} still shows"))
    }

    /// Waits until an element's text has `text` in it.
    pub(crate) async fn says(&self, css: &str, text: &str) -> Result<()> {
        let found = self.until(|| async {
            let now = self.driver.find(By::Css(css)).await?.text().await?;
            Ok(now.contains(text).then_some(()))
        });
        found
            .await
            .with_context(|| format!("{css} does not say {text:?}"))
    }

    /// Clicks an element once it shows and can be clicked.
    pub(crate) async fn click(&self, css: &str) -> Result<()> {
        let clicked = self.until(|| async {
            let element = self.driver.find(By::Css(css)).await?;
            if !element.is_clickable().await? {
                return Ok(None);
            }
            element.click().await?;
            Ok(Some(()))
        });
        clicked
            .await
            .with_context(|| format!("{css} cannot be clicked"))
    }

    /// Types what confirms a dialog, after another text with which its button stays dead.
    pub(crate) async fn confirm_with(&self, deed: &str, [wrong, right]: [&str; 2]) -> Result<()> {
        for (typed, is_enabled) in [(wrong, false), (right, true)] {
            self.fill(&format!("#{deed}-typed"), typed).await?;
            let button = self.shown(&confirm_of(deed)).await?;
            ensure!(button.is_enabled().await? == is_enabled, "{typed}");
        }
        Ok(())
    }

    /// Presses the button of a dialog. The request reaches the server, its answer does not come back, and the button
    /// is pressed again.
    pub(crate) async fn repeat_after_a_lost_answer(&self, deed: &str) -> Result<()> {
        let script = "const real = window.fetch;
            window.fetch = async (path, options) => {
              if (options?.method !== 'POST') return real(path, options);
              window.fetch = real;
              await real(path, options);
              throw new TypeError();
            };";
        self.driver.execute(script, Vec::new()).await?;
        self.click(&confirm_of(deed)).await?;
        self.says(&format!("#{deed}-message"), "is not known")
            .await?;
        self.click(&confirm_of(deed)).await
    }

    /// Asks until there is an answer. An element that is not there, or went with its page while it was
    /// asked, counts as *not yet*.
    async fn until<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = WebDriverResult<Option<T>>>,
    {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            match ask().await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) if tokio::time::Instant::now() > deadline => {
                    anyhow::bail!("not within {WAIT:?}")
                }
                Err(error) if tokio::time::Instant::now() > deadline => return Err(error.into()),
                Ok(None) | Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Plays a screen of this size; a window of Chromium is never as narrow as a phone.
    pub(crate) async fn as_wide_as(&self, width: i64, height: i64) -> Result<()> {
        let screen = serde_json::json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        let command = "Emulation.setDeviceMetricsOverride";
        self.driver.cdp().send_raw(command, screen).await?;
        Ok(())
    }

    /// What the focused element is, by its id.
    pub(crate) async fn focused(&self) -> Result<Option<String>> {
        Ok(self.driver.active_element().await?.id().await?)
    }

    /// What shows beyond the window's right edge, and in nothing that can be scrolled there.
    pub(crate) async fn cut_off(&self) -> Result<Vec<String>> {
        let script = "const scrolls = (e) => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
            const beyond = (e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
            const all = [...document.querySelectorAll('body *')];
            return all.filter((e) => e.checkVisibility() && beyond(e) && !scrolls(e.parentElement)).map((e) => e.outerHTML.slice(0, 200))";
        let answer = self.driver.execute(script, Vec::new()).await?;
        Ok(answer.convert()?)
    }

    /// Whether the page is wider than the window.
    pub(crate) async fn scrolls_sideways(&self) -> Result<bool> {
        let script =
            "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
        let answer = self.driver.execute(script, Vec::new()).await?;
        Ok(answer.convert::<bool>()?)
    }
}

impl Browser {
    /// Without a runtime: also at the end of a test that panicked.
    fn end_session(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(WAIT))?;
        let session = self.driver.session_id();
        write!(
            stream,
            "DELETE /session/{session} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )?;
        stream.read_exact(&mut [0])
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session, and would outlive a driver that is only killed.
        if let Err(error) = self.end_session() {
            eprintln!("Chromium may still be running: {error}");
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn confirm_of(deed: &str) -> String {
    format!("#{deed}-dialog [type=submit]")
}

async fn connect(port: u16, capabilities: &ChromeCapabilities) -> Result<WebDriver> {
    let url = format!("http://127.0.0.1:{port}");
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        match WebDriver::new(&url, capabilities.clone()).await {
            Ok(driver) => return Ok(driver),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(anyhow::Error::new(error).context("no session with Chromium"));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
