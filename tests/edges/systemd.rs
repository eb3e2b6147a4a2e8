//! The notification socket, with the test in systemd's place.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

use spot_relay::host::systemd::Systemd;

fn received(socket: &UnixDatagram) -> String {
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut message = [0; 200];
    let length = socket.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[test]
fn messages_arrive_at_a_path_and_at_an_abstract_name() {
    let path = std::env::temp_dir().join(format!("spot-relay-notify-{}", process::id()));
    let at_path = UnixDatagram::bind(&path).unwrap();
    let name = format!("spot-relay-notify-{}", process::id());
    let at_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    for (socket, notify_socket) in [(&at_path, path.as_os_str()), (&at_name, format!("@{name}").as_ref())] {
        let systemd = Systemd::new(Some(notify_socket), None);
        systemd.ready();
        systemd.status("handing over:\n12 s left");
        systemd.watchdog();
        systemd.extend_timeout(Duration::from_secs(90));
        systemd.stopping();
        let messages: Vec<String> = (0..5).map(|_| received(socket)).collect();
        let expected =
            ["READY=1", "STATUS=handing over: 12 s left", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=90000000", "STOPPING=1"];
        assert_eq!(messages, expected);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_status_is_one_line_that_shows_what_others_wrote_and_is_short_enough_for_systemd() {
    let name = format!("spot-relay-status-{}", process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let systemd = Systemd::new(Some(format!("@{name}").as_ref()), None);
    systemd.status("AWS says: \u{1b}[2J\u{7}gone");
    let shown = received(&socket);
    assert!(shown.starts_with("STATUS=AWS says: ") && !shown.contains(char::is_control), "{shown:?}");
    systemd.status(&"\u{e4}".repeat(5000));
    let mut message = [0; 8192];
    let length = socket.recv(&mut message).unwrap();
    assert!((3_900..4_096).contains(&length), "{length}");
    assert!(std::str::from_utf8(&message[..length]).is_ok());
}

#[test]
fn nobody_who_reads_holds_us_up() {
    let name = format!("spot-relay-deaf-{}", process::id());
    let _deaf = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let systemd = Systemd::new(Some(format!("@{name}").as_ref()), None);
    let began = Instant::now();
    (0..5000).for_each(|_| systemd.watchdog());
    assert!(began.elapsed() < Duration::from_secs(1));
    for nowhere in [None, Some("".as_ref()), Some("/nowhere/at/all".as_ref())] {
        Systemd::new(nowhere, None).ready();
    }
}

#[test]
fn a_watchdog_of_no_time_is_none() {
    let limit = |watchdog| Systemd::new(None, watchdog).watchdog_limit();
    assert_eq!(limit(Some(Duration::from_secs(30))), Some(Duration::from_secs(30)));
    assert_eq!((limit(None), limit(Some(Duration::ZERO))), (None, None));
}
