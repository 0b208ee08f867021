//! Runs the binary and reads what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The binary, without what the environment of the tests might say about Sira or telemetry.
pub fn sira() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sira"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SIRA_") || text.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The error of a `--json` run.
    #[track_caller]
    pub fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        let record: Value = serde_json::from_str(last).unwrap();
        record["error"].clone()
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command with this standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    #[allow(clippy::disallowed_methods, reason = "tests run on the system's own threads")]
    let writer = std::thread::spawn(move || {
        // The binary may refuse before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running `sira serve` on free ports.
pub struct Server {
    pub child: Child,
    pub http: String,
    pub resp: String,
    pub ready: Value,
    pub stdout: BufReader<std::process::ChildStdout>,
}

impl Server {
    pub fn start(root: &Path) -> Self {
        Self::start_with(root, |_| {})
    }

    pub fn start_with(root: &Path, change: impl FnOnce(&mut Command)) -> Self {
        Self::launch(sira(), root, change)
    }

    /// Starts the server by a command that ends in the binary's path.
    pub fn launch(mut command: Command, root: &Path, change: impl FnOnce(&mut Command)) -> Self {
        command
            .args(["serve", "--json", "--http-addr", "127.0.0.1:0", "--resp-addr", "127.0.0.1:0"])
            .arg("--root")
            .arg(root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let resp = text("resp").trim_start_matches("redis://").to_owned();
        Self { child, http: text("http"), resp, ready, stdout }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; the exit code and what else was printed.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something that the verbs work on.
pub struct Place {
    pub name: &'static str,
    args: Vec<String>,
    pub files: TempDir,
    _server: Option<Server>,
    _root: TempDir,
}

impl Place {
    /// The binary, pointed at this place.
    pub fn sira<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = sira();
        command.args(args).args(&self.args).current_dir(self.files.path());
        command
    }

    /// Runs the binary on this place.
    pub fn run<const N: usize>(&self, args: [&str; N]) -> Ran {
        run(&mut self.sira(args))
    }

    /// Stores bytes.
    #[track_caller]
    pub fn put(&self, key: &str, value: &[u8]) -> String {
        let ran = run_with_input(&mut self.sira(["put", "--json", key]), value).exits(0);
        ran.json()[0]["version"].as_str().unwrap().to_owned()
    }
}

/// Runs a test on a folder and on a server: what holds on one holds on the other.
pub fn each_place(test: impl Fn(&Place)) {
    let root = tempfile::tempdir().unwrap();
    let args = vec!["--root".to_owned(), root.path().to_str().unwrap().to_owned()];
    let files = tempfile::tempdir().unwrap();
    test(&Place { name: "folder", args, files, _server: None, _root: root });

    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let args = vec!["--server".to_owned(), server.http.clone()];
    let files = tempfile::tempdir().unwrap();
    test(&Place { name: "server", args, files, _server: Some(server), _root: root });
}

/// Bytes that no pattern repeats.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Sends a request and returns status and body.
pub fn http(server: &Server, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let address = server.http.trim_start_matches("http://");
    http_to(address, method, path, body).unwrap()
}

/// As [`http`], to a server that may go away meanwhile.
pub fn http_to(
    address: &str,
    method: &str,
    path: &str,
    body: &[u8],
) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    let json = match path.ends_with("/_tx") {
        true => "Content-Type: application/json\r\n",
        false => "",
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n{json}Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let Some(split) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Err(cut);
    };
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    Ok((status, answer[split + 4..].to_vec()))
}
