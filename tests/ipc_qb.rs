//! The server of the libqb transport against stock libqb's client, and what is left behind when
//! clients or servers end, orderly or not.

#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/public.rs"]
mod public;
#[path = "ipc/support.rs"]
mod support;

use nix::mount::{MsFlags, mount};
use pmxcfs::ipc::server::ResponseData;
use std::time::Duration;
use support::*;

/// Runs only in the process that [`spawn_server`] starts.
#[test]
fn server_process() {
    serve_if_asked();
}

#[test]
fn echoes_of_all_kinds_of_sizes() {
    let server = TestServer::start();
    // The longest echo is the one whose answer, with its longer header, is as long as agreed.
    let sizes = "0 1 2 3 4 5 7 8 9 4071 4072 4073 65536 300001 1048551 1048552".split(' ');
    let args: Vec<&str> = ["echo", &server.name, "3"].into_iter().chain(sizes).collect();
    assert_eq!(stock(&args), "echoed 48\n");
    server.assert_clean();
}

#[test]
fn rings_wrap_around_many_times() {
    let server = TestServer::start();
    let out = stock(&["echo", &server.name, "60", "1", "99991", "4099", "511117", "13", "262143"]);
    assert_eq!(out, "echoed 360\n");
    server.assert_clean();
}

#[test]
fn requests_may_be_pipelined() {
    let server = TestServer::start();
    assert_eq!(stock(&["pipeline", &server.name, "1", "200", "1000"]), "pipelined 200\n");
    // Together longer than the ring of answers: they wait until there is room.
    assert_eq!(stock(&["pipeline", &server.name, "5", "10", "400000"]), "pipelined 10\n");
    server.assert_clean();
}

#[test]
fn the_longest_request_and_the_longest_answer() {
    let server = TestServer::start();
    let length = |request, answer| stock(&["length", &server.name, request, answer]);
    assert_eq!(length("1048560", "8"), "buffer 1048576\nerror 0\ndata 8\n");
    assert_eq!(length("4", "1048552"), "buffer 1048576\nerror 0\ndata 1048552\n");
    let too_long = format!("buffer 1048576\nerror {}\ndata 0\n", -libc::ENOBUFS);
    assert_eq!(length("4", "1048553"), too_long);
    server.assert_clean();
}

#[test]
fn sixteen_processes_at_once() {
    let server = TestServer::start();
    let clients: Vec<_> =
        (0..16).map(|_| Program::stock(&["echo", &server.name, "50", "10", "70000", "3000"])).collect();
    for mut client in clients {
        client.expect("echoed 150");
        client.finish();
    }
    server.assert_clean();
}

#[test]
fn many_connections_leave_no_descriptor_and_no_file() {
    let (name, shm) = (unique_name(), shm_dir());
    let server = spawn_server(&name, shm.path());
    let descriptors = || entries(format!("/proc/{}/fd", server.id()).as_ref()).len();
    let threads = || entries(format!("/proc/{}/task", server.id()).as_ref()).len();
    let before = (descriptors(), threads());
    assert_eq!(stock(&["reconnect", &name, "300"]), "connected 300\n");
    (0..300).for_each(|_| assert_echo(&mut connect(&name), &[7; 100_000]));
    // A few threads wait for the next clients.
    let ended = || descriptors() == before.0 && threads() <= before.1 + 4;
    eventually("descriptors and threads end", ended);
    assert_eq!(entries(shm.path()), [""; 0]);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.id())).unwrap();
    assert!(!maps.contains(shm.path().to_str().unwrap()), "a ring is still mapped");
    assert!(!maps.contains("memfd:"), "a ring of our own is still mapped");
}

#[test]
fn strangers_are_refused() {
    let server = TestServer::start();
    let program = public::Copy::of(stock_program());
    for uid in [STRANGER, 65534] {
        let out = run(program.command_as(uid, uid).args(["refused", &server.name]));
        assert_eq!(out, format!("errno {}\n", libc::EACCES));
    }
    server.assert_clean();
}

#[test]
fn a_user_uses_its_files_but_cannot_replace_them() {
    let server = TestServer::start();
    let program = public::Copy::of(stock_program());
    let mut held = Program::start(program.command_as(READER, READER).args(["hold", &server.name]));
    held.expect("connected 1");
    let dir = server.shm.path().join(&entries(server.shm.path())[0]);
    assert_eq!(entries(&dir).len(), 6);
    for name in entries(&dir) {
        let file = dir.join(&name);
        for (command, args) in [
            ("rm", vec!["-f".as_ref(), file.as_os_str()]),
            ("mv", vec![file.as_os_str(), dir.join("moved").as_os_str()]),
            ("ln", vec!["-sf".as_ref(), "/etc/passwd".as_ref(), file.as_os_str()]),
        ] {
            let mut command = public::command_as(command, READER, READER);
            let status = command.args(args).stderr(std::process::Stdio::null()).status();
            assert!(!status.unwrap().success(), "{command:?}");
        }
        assert!(file.symlink_metadata().unwrap().is_file());
    }
    held.say("ask");
    held.expect("answer 34");
    held.finish();
    server.assert_clean();
}

#[test]
fn the_service_learns_who_asks() {
    let server = TestServer::start();
    let response = server.connect().request(WHO, b"", Some(LIMIT)).unwrap();
    let who = String::from_utf8(response.data.as_bytes().to_vec()).unwrap();
    let (pid, uid, gid) = (std::process::id(), nix::unistd::getuid(), nix::unistd::getgid());
    assert_eq!(who, format!("Client {{ pid: {pid}, uid: {uid}, gid: {gid}, access: ReadWrite }}"));
}

#[test]
fn a_panic_is_answered_and_harms_nobody() {
    let server = TestServer::start();
    let (mut one, mut other) = (server.connect(), server.connect());
    let response = one.request(PANIC, b"", Some(LIMIT)).unwrap();
    assert_eq!((response.error, response.data), (-libc::EIO, ResponseData::Owned(vec![])));
    assert_echo(&mut one, b"still connected");
    assert_echo(&mut other, b"undisturbed");
}

#[test]
fn a_client_killed_in_a_request_leaves_nothing() {
    let server = TestServer::start();
    let mut other = connect_as_libqb(&server.name);
    let mut client = Program::stock(&["hang", &server.name]);
    client.expect("connected 1");
    eventually("the request arrives", || server.service.gate.waiting() == 1);
    client.kill();
    assert_echo(&mut other, b"not delayed by a request that waits");
    server.service.gate.open();
    eventually("the connection ends", || server.connections() == 1);
    assert_eq!(entries(server.shm.path()).len(), 1);
    drop(other);
    server.assert_clean();
}

#[test]
fn an_idle_client_that_is_killed_leaves_nothing() {
    let server = TestServer::start();
    let mut client = Program::stock(&["hold", &server.name]);
    client.expect("connected 1");
    assert_eq!(entries(server.shm.path()).len(), 1);
    client.kill();
    server.assert_clean();
}

#[test]
fn the_next_server_sweeps_what_a_killed_one_left() {
    let (name, shm) = (unique_name(), shm_dir());
    let mut server = spawn_server(&name, shm.path());
    let mut clients = ["hold", "hold"].map(|command| Program::stock(&[command, &name]));
    clients.iter_mut().for_each(|client| client.expect("connected 1"));
    server.kill();
    // A stock client notices, and removes its files but not the directory; a killed one does not.
    let [mut noticing, mut killed] = clients;
    noticing.say("ask");
    noticing.expect(&format!("answer {}", -libc::ENOTCONN));
    noticing.finish();
    killed.kill();
    assert_eq!(entries(shm.path()).len(), 2);
    let server = spawn_server(&name, shm.path());
    assert_eq!(entries(shm.path()), [""; 0]);
    assert_eq!(stock(&["reconnect", &name, "1"]), "connected 1\n");
    server.finish();
}

#[test]
fn stopping_disconnects_everybody_and_leaves_nothing() {
    let mut server = TestServer::start();
    let mut native = server.connect();
    let mut stock = Program::stock(&["hold", &server.name]);
    stock.expect("connected 1");
    server.stop();
    assert_eq!(entries(server.shm.path()), [""; 0]);
    assert!(native.request(ECHO, b"x", Some(LIMIT)).is_err());
    assert!(try_connect(&server.name).is_err());
    stock.say("ask");
    stock.expect(&format!("answer {}", -libc::ENOTCONN));
    stock.finish();
}

#[test]
fn stopping_does_not_wait_for_ever_for_a_request() {
    let mut server = TestServer::start();
    let mut client = server.connect();
    client.send(WAIT, b"").unwrap();
    eventually("the request arrives", || server.service.gate.waiting() == 1);
    server.stop();
    assert_eq!(entries(server.shm.path()), [""; 0]);
    assert!(client.receive(Some(LIMIT)).is_err(), "hung up before the answer");
}

#[test]
fn a_user_cannot_take_all_connections() {
    let server = TestServer::with(|options| options.max_connections_per_user = 2);
    let program = public::Copy::of(stock_program());
    let reader = |args: [&str; 2]| {
        let mut command = program.command_as(READER, READER);
        command.args(args);
        command
    };
    let mut held = [(); 2].map(|()| Program::start(&mut reader(["hold", &server.name])));
    held.iter_mut().for_each(|client| client.expect("connected 1"));
    let out = run(&mut reader(["refused", &server.name]));
    assert_eq!(out, format!("errno {}\n", libc::EAGAIN));
    assert_echo(&mut server.connect(), b"root may");
    let [first, second] = held;
    first.finish();
    eventually("there is room again", || server.connections() == 1);
    assert_eq!(run(&mut reader(["refused", &server.name])), "errno 0\n");
    second.finish();
}

#[test]
fn one_service_has_one_server() {
    let server = TestServer::start();
    let options = || pmxcfs::ipc::Options {
        namespace: pmxcfs::ipc::qb::Namespace::Abstract,
        shm_dir: server.shm.path().into(),
        ..Default::default()
    };
    let mut client = server.connect();
    let second =
        pmxcfs::ipc::Server::start(&server.name, std::sync::Arc::clone(&server.service) as _, options());
    assert!(second.is_err());
    assert_echo(&mut client, b"its files are not swept");
}

/// libqb looks for `/etc/libqb/force-filesystem-sockets`, which no test may make on a machine. The
/// client gets an `/etc` of its own.
#[test]
fn socket_files_where_the_machine_asks_for_them() {
    let namespace = pmxcfs::ipc::qb::Namespace::Directory("/tmp".into());
    let mut server = TestServer::with(|options| options.namespace = namespace);
    let socket = std::path::Path::new("/tmp").join(&server.name);
    assert!(socket.exists());
    namespace::enter_once();
    mount(Some("none"), "/etc", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    std::fs::create_dir("/etc/libqb").unwrap();
    std::fs::write("/etc/libqb/force-filesystem-sockets", "").unwrap();
    assert_eq!(stock(&["reconnect", &server.name, "2"]), "connected 2\n");
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn the_socket_file_of_a_killed_server_is_replaced_that_of_a_running_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = || pmxcfs::ipc::qb::Namespace::Directory(dir.path().into());
    let name = unique_name();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join(&name)).unwrap());
    let start = || {
        let options =
            pmxcfs::ipc::Options { namespace: namespace(), shm_dir: dir.path().into(), ..Default::default() };
        pmxcfs::ipc::Server::start(&name, std::sync::Arc::new(TestService::default()), options)
    };
    let server = start().unwrap();
    assert!(start().is_err());
    let options = pmxcfs::ipc::qb::client::ConnectOptions {
        namespace: namespace(),
        max_message_size: 100,
        timeout: Some(Duration::from_secs(20)),
        as_libqb: false,
    };
    let mut client = pmxcfs::ipc::qb::client::Client::connect_with(&name, &options).unwrap();
    assert_echo(&mut client, b"through a socket file");
    assert_eq!(client.max_message_size(), 12328, "never less than the handshake needs");
    server.stop();
}
