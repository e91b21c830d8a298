//! nginx with `proxy_pass`, where it is installed: the floor that everybody knows.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::process::{Process, free_port, wait_for};
use crate::support::settings::folder;

/// A running nginx: one process, so that its CPU is that of one id.
#[derive(Debug)]
pub(crate) struct Nginx {
    /// The process.
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// nginx in front of `upstream`; none where it is not installed.
    pub(crate) fn start(upstream: SocketAddr) -> anyhow::Result<Option<Self>> {
        let places =
            ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx", "/opt/homebrew/bin/nginx"];
        let Some(program) = places.into_iter().find(|place| Path::new(place).exists()) else {
            return Ok(None);
        };
        let folder = folder()?;
        let port = free_port()?;
        std::fs::write(folder.path().join("nginx.conf"), configuration(port, upstream))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        let process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for(addr)?;
        Ok(Some(Self { process, addr, _folder: folder }))
    }
}

fn configuration(port: u16, upstream: SocketAddr) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream model {{ server {upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
    }}
  }}
}}
"
    )
}
