//! A headless Chromium, driven over WebDriver (https://www.w3.org/TR/webdriver2/).

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::Unsupported;

pub const PATIENCE: Duration = Duration::from_secs(60);
/// What WebDriver calls a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";

pub struct Browser {
    driver: Child,
    session: String,
    profile: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Element(String);

fn find(programs: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut files = programs
        .iter()
        .flat_map(|it| folders.iter().map(move |folder| folder.join(it)));
    files.find(|file| file.is_file())
}

fn post(url: &str, body: &Value) -> Result<Value, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let answer = agent
        .post(url)
        .content_type("application/json")
        .send(body.to_string());
    read(answer)
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, String> {
    let mut answer = answer.map_err(|error| error.to_string())?;
    let text = answer
        .body_mut()
        .read_to_string()
        .map_err(|error| error.to_string())?;
    let mut document: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    match document["value"]["error"].as_str() {
        Some(_) => Err(document["value"].to_string()),
        None => Ok(document["value"].take()),
    }
}

impl Browser {
    /// `None`, and the test is skipped, where there is no Chromium.
    pub fn start(test: &str, javascript: bool) -> Option<Self> {
        let (Some(chromium), Some(driver)) =
            (find(&["chromium", "chromium-browser"]), find(&["chromedriver"]))
        else {
            let why = "no chromium and chromedriver in PATH (cargo xtask test brings them on Debian)";
            let nothing: anyhow::Result<()> = Err(Unsupported(why.to_owned()).into());
            assert!(testbed::or_skip(test, nothing).unwrap().is_none());
            return None;
        };
        let profile =
            std::env::temp_dir().join(format!("taskleak-{test}-{}", std::process::id()).replace("::", "-"));
        fs::create_dir_all(&profile).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(driver);
        command
            .arg(format!("--port={}", free.port()))
            .env("HOME", &profile)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(profile.join("log")).unwrap());
        // SAFETY: prctl is a plain system call; nothing is allocated between fork and exec.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let mut browser = Self {
            driver: command.spawn().unwrap(),
            session: String::new(),
            profile,
        };
        // Root has no sandbox in Chromium; it is shown nothing but our own page.
        let options = json!({
            "binary": chromium,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,900",
                     "--disable-background-networking", "--disable-component-update", "--no-first-run"],
            "prefs": {"profile.managed_default_content_settings.javascript": if javascript { 1 } else { 2 }},
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "unhandledPromptBehavior": "ignore",
        }}});
        let url = format!("http://{free}/session");
        let begun = Instant::now();
        let session = loop {
            match post(&url, &wanted) {
                Ok(session) => break session,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            thread::sleep(Duration::from_millis(200));
        };
        browser.session = format!("{url}/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn ask(&self, command: &str, body: &Value) -> Value {
        post(&format!("{}/{command}", self.session), body)
            .unwrap_or_else(|error| panic!("{command} {body}: {error}"))
    }

    fn get(&self, command: &str) -> Result<Value, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        read(agent.get(format!("{}/{command}", self.session)).call())
    }

    pub fn open(&self, url: &str) {
        self.ask("url", &json!({"url": url}));
    }

    pub fn all(&self, selector: &str) -> Vec<Element> {
        let found = self.ask("elements", &json!({"using": "css selector", "value": selector}));
        let found = found.as_array().unwrap().iter();
        found
            .map(|it| Element(it[ELEMENT].as_str().unwrap().to_owned()))
            .collect()
    }

    pub fn one(&self, selector: &str) -> Element {
        let found = self.all(selector);
        assert_eq!(found.len(), 1, "{selector}");
        found[0].clone()
    }

    pub fn click(&self, element: &Element) {
        self.ask(&format!("element/{}/click", element.0), &json!({}));
    }

    /// What a person can read of it.
    pub fn text(&self, element: &Element) -> String {
        self.get(&format!("element/{}/text", element.0))
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn is_shown(&self, element: &Element) -> bool {
        self.get(&format!("element/{}/displayed", element.0)).unwrap() == true
    }

    /// The same two by a script in one go: a refresh may put other elements in at any time.
    pub fn shows(&self, selector: &str) -> bool {
        self.run(&format!(
            "return document.querySelector('{selector}').checkVisibility()"
        )) == true
    }

    pub fn reads(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector('{selector}').innerText"));
        text.as_str().unwrap().to_owned()
    }

    pub fn fill(&self, element: &Element, text: &str) {
        self.ask(&format!("element/{}/value", element.0), &json!({"text": text}));
    }

    pub fn run(&self, script: &str) -> Value {
        self.ask("execute/sync", &json!({"script": script, "args": []}))
    }

    /// A key, pressed and let go, whatever has the focus.
    pub fn press(&self, key: &str) {
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.ask(
            "actions",
            &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}),
        );
    }

    /// The text of an open alert.
    pub fn alert(&self) -> Option<String> {
        let alert = self.get("alert/text");
        alert.ok().and_then(|it| it.as_str().map(str::to_owned))
    }

    /// Complaints in the console.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().unwrap().iter();
        entries
            .filter(|it| it["level"] == "SEVERE")
            .map(|it| it["message"].to_string())
            .collect()
    }

    /// Base64 of a PNG.
    pub fn screenshot(&self) -> String {
        self.get("screenshot").unwrap().as_str().unwrap().to_owned()
    }

    /// Asks until there is an answer.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            let page = || self.run("return document.body.innerText");
            assert!(begun.elapsed() < PATIENCE, "{what}: {}", page());
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into();
            let _ = agent.delete(&self.session).call();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}
