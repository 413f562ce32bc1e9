//! What no client should send, and more of it than is wanted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::world::{connect, options, serve, try_connect};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_connections_ask_at_once_and_the_sixty_first_is_told() {
    let server = serve(options());
    let at = server.address;
    let asked = (0..50).map(|n: i64| async move {
        let client = connect(at, "user=anybody").await;
        let mut sum = 0;
        for _ in 0..5 {
            sum += client.query_one("SELECT count(*) + $1 FROM payments", &[&n]).await.expect("a row").get::<_, i64>(0);
        }
        assert_eq!(sum, 5 * (3 + n));
        client
    });
    let mut clients = futures::future::join_all(asked).await;
    while clients.len() < 60 {
        clients.push(connect(at, "user=anybody").await);
    }
    let error = try_connect(at, "user=anybody").await.err().expect("a refusal");
    assert_eq!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
    assert!(clients[0].simple_query("SELECT 1").await.is_ok());
}

/// Sends bytes and waits until the other side ends or says nothing more.
fn throw(at: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(at).expect("the port is open");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    // It may close before all is sent.
    let _ = socket.write_all(bytes);
    let _ = socket.read_to_end(&mut Vec::new());
}

fn startup() -> Vec<u8> {
    let body = b"\x00\x03\x00\x00user\0x\0database\0watershed\0\0";
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_end_their_own_connection_and_nothing_else() {
    let server = serve(options());
    let at = server.address;
    let bystander = connect(at, "user=anybody").await;
    let prepared = |sql: &[u8]| [message(b'P', &[b"\0", sql, b"\0\0\0"].concat()), message(b'B', b"\0\0\0\0\0\0\0\0")].concat();
    let mut attacks: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 64],
        vec![0x00; 64],
        vec![0x16, 0x03, 0x01, 0xff, 0xff],
        [startup(), vec![0xff; 1024]].concat(),
        [startup(), b"Q\xff\xff\xff\xff".to_vec()].concat(),
        [startup(), b"Q\x00\x00\x00\x00".to_vec()].concat(),
        [startup(), b"Q\x7f\xff\xff\xffSELECT".to_vec()].concat(),
        [startup(), message(b'Q', b"no end")].concat(),
        [startup(), message(b'Q', b"\xff\xfe\0")].concat(),
        [startup(), message(b'B', b"\0nothing\0\xff\xff\xff\xff")].concat(),
        [startup(), message(b'p', b"SCRAM-SHA-256\0")].concat(),
        [startup(), message(b'd', b"rows")].concat(),
        [startup(), message(b'D', b"Z")].concat(),
        [startup(), message(b'C', b"")].concat(),
        [startup(), message(b'F', b"\0\0")].concat(),
        // More rows than there can be, and fewer than none.
        [startup(), prepared(b"SELECT 1"), message(b'E', b"\0\x7f\xff\xff\xff"), message(b'S', b"")].concat(),
        [startup(), prepared(b"SELECT 1"), message(b'E', b"\0\xff\xff\xff\xff"), message(b'S', b"")].concat(),
        // Formats for other columns than there are.
        [startup(), message(b'P', b"\0SELECT 1, 2\0\0\0"), message(b'B', b"\0\0\0\0\0\0\0\x01\0\x07"), message(b'D', b"P\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")]
            .concat(),
        [startup(), message(b'P', b"\0SELECT $1, $65535, $99999\0\0\0"), message(b'B', b"\0\0\0\x01\0\x01\0\0\0\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat(),
        [startup(), message(b'Q', format!("SELECT {}1{}\0", "(".repeat(20_000), ")".repeat(20_000)).as_bytes())].concat(),
    ];
    // Any prefix of a conversation, and any one bit of it turned.
    let whole =
        [startup(), prepared(b"SELECT id FROM payments WHERE id = $1"), message(b'D', b"P\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b""), message(b'Q', b"SELECT 1\0")]
            .concat();
    for at in (0..whole.len()).step_by(3) {
        attacks.push(whole[..at].to_vec());
        let mut turned = whole.clone();
        turned[at] ^= 1 << (at % 8);
        attacks.push(turned);
    }
    let thrown = attacks.len();
    tokio::task::spawn_blocking(move || {
        std::thread::scope(|scope| {
            for part in attacks.chunks(thrown.div_ceil(12)) {
                scope.spawn(move || part.iter().for_each(|bytes| throw(at, bytes)));
            }
        });
    })
    .await
    .expect("all are thrown");
    assert!(thrown > 100);
    assert_eq!(bystander.query("SELECT id FROM payments", &[]).await.expect("rows").len(), 3);
    assert!(connect(at, "user=anybody").await.simple_query("SELECT 1").await.is_ok());
}
