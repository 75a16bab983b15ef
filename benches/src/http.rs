//! The plainest HTTP client that asks once and is told all: for set-up and for waiting, not for rates.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Trouble;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The headers, with their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Gets a path of a server, like `127.0.0.1:8080`, on a connection of its own.
///
/// # Errors
/// When there is no answer, or none of HTTP.
pub async fn get(address: &str, path: &str) -> Result<Answer, Trouble> {
    let failed = |e: &dyn Display| Trouble::new(format!("http://{address}{path}: {e}"));
    let mut connection = TcpStream::connect(address).await.map_err(|e| failed(&e))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/html\r\n\r\n");
    connection.write_all(request.as_bytes()).await.map_err(|e| failed(&e))?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.map_err(|e| failed(&e))?;
    parse(&answer).ok_or_else(|| failed(&"the answer is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let headers = pairs.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Some(Answer { status, headers: headers.collect(), body: answer.get(end + 4..)?.to_vec() })
}

/// Waits until a server answers a path with success.
///
/// # Errors
/// When it does not within `limit`: with what it said last.
pub async fn until_ready(address: &str, path: &str, limit: Duration) -> Result<(), Trouble> {
    let mut last = String::new();
    let ready = async {
        loop {
            match get(address, path).await {
                Ok(answer) if answer.status < 400 => return,
                Ok(answer) => last = format!("status {}", answer.status),
                Err(why) => last = why.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(limit, ready).await;
    waited
        .map_err(|_| Trouble::new(format!("{address}{path} is not ready after {limit:?}: {last}")))
}

/// An address of this machine that nobody listens at.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<String, Trouble> {
    let failed = |e: std::io::Error| Trouble::new(format!("no free port: {e}"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    Ok(listener.local_addr().map_err(failed)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_its_headers_and_its_bytes() {
        let text = b"HTTP/1.1 302 Found\r\nLocation: http://h/a?b\r\nx: 1\r\n\r\n\x00\r\n\r\nz";
        let answer = parse(text).unwrap();
        assert_eq!((answer.status, answer.headers["location"].as_str()), (302, "http://h/a?b"));
        assert_eq!(answer.body, b"\x00\r\n\r\nz");
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n"), None);
    }
}
