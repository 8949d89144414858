//! Texts that are read, and texts that are refused.

use super::*;

const TABLE: &str = "CREATE TABLE tree (  inode INTEGER PRIMARY KEY NOT NULL,  data BLOB);\n";

fn text(inner: &str) -> String {
    format!("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n{TABLE}{inner}\nCOMMIT;\n")
}

fn rows(inner: &str) -> Result<Vec<Row>, TextError> {
    read(text(inner).as_bytes(), |_| ())
}

fn row(name: &str, data: &str) -> String {
    format!("INSERT INTO tree VALUES(7,0,9,1,1795360063,8,{name},{data});")
}

#[test]
fn literals_of_all_kinds_are_read() {
    for (name, read_name) in [
        ("'a'", "a"),
        ("'a''b;'", "a'b;"),
        ("'ä'", "ä"),
        (r"replace('a\nb','\n',char(10))", "a\nb"),
        (r"replace(replace('a\r\nb','\r',char(13)),'\n',char(10))", "a\r\nb"),
    ] {
        for (data, contents) in
            [("NULL", &b""[..]), ("X''", b""), ("X'00ffAB'", b"\x00\xff\xab"), ("'text'", b"text")]
        {
            let rows = rows(&row(name, data)).unwrap_or_else(|error| panic!("{name}, {data}: {error}"));
            let [row] = rows.as_slice() else { panic!("{rows:?}") };
            assert_eq!(
                (&*row.name, row.data.as_ref().map_or(&[][..], |data| data)),
                (read_name.as_bytes(), contents)
            );
            assert_eq!(
                (row.inode, row.version, row.writer, row.mtime, row.kind),
                (7, 9, 1, 1_795_360_063, 8)
            );
        }
    }
    let quoted = rows(&row("'a'", "NULL").replace("tree VALUES", "\"tree\" VALUES"));
    assert_eq!(quoted.map(|rows| rows.len()).unwrap_or(0), 1);
}

#[test]
fn other_statements_are_refused() {
    for inner in [
        "ATTACH '/etc/passwd' AS x;",
        "PRAGMA writable_schema=ON;",
        "SELECT load_extension('/tmp/x.so');",
        "CREATE TABLE other (a);",
        "CREATE TRIGGER x AFTER INSERT ON tree BEGIN SELECT 1; END;",
        "CREATE VIEW tree AS SELECT 1;",
        "INSERT INTO other VALUES(1);",
        "INSERT INTO tree SELECT * FROM tree;",
        "INSERT INTO tree VALUES(7,0,9,1,1,8,'a',readfile('/etc/shadow'));",
        "INSERT INTO tree VALUES(7,0,9,1,1,8,'a',zeroblob(1000000000));",
        "INSERT INTO tree VALUES(7,0,9,1,1,8,'a',NULL),(8,0,9,1,1,8,'b',NULL);",
        "INSERT INTO tree VALUES(7,0,9,1,1,8,'a',NULL) ON CONFLICT DO NOTHING;",
        "INSERT INTO tree VALUES(-7,0,9,1,1,8,'a',NULL);",
        "INSERT INTO tree VALUES(7,0,9,1,99999999999,8,'a',NULL);",
        "INSERT INTO tree VALUES(7,0,9,1,1,300,'a',NULL);",
        "INSERT INTO tree VALUES(7,0,9,1,1,8,'a',X'0');",
        "INSERT INTO tree VALUES(7,0,9,1,1,8,'a',X'0g');",
        "INSERT INTO tree VALUES(7,0,9,1,1,8,replace('a','',char(10)),NULL);",
        "INSERT INTO tree VALUES(1.5,0,9,1,1,8,'a',NULL);",
        "COMMIT;",
        "ROLLBACK; -- due to errors",
    ] {
        assert!(matches!(rows(inner), Err(TextError::Statement { .. })), "{inner}: {:?}", rows(inner));
    }
}

#[test]
fn text_that_ends_early_is_refused() {
    let whole = text(&row("'a'", "X'616263'"));
    assert_eq!(read(whole.as_bytes(), |_| ()).map(|rows| rows.len()).unwrap_or(0), 1);
    let end = whole.trim_end().len();
    for cut in 0..end {
        assert!(read(&whole.as_bytes()[..cut], |_| ()).is_err(), "{cut} of {end}");
    }
}

#[test]
fn memory_is_bounded() {
    let endless = io::repeat(b' ').take(u64::MAX);
    assert!(matches!(read(endless, |_| ()), Err(TextError::Length { number: 1 })));
    let statements = "BEGIN TRANSACTION;\n".repeat(1000);
    assert!(matches!(read_within(10_000, 1 << 20, statements.as_bytes(), |_| ()), Err(TextError::Size)));
    let files = text(&row("'a'", "X'00112233'").repeat(3));
    let within = |contents_max| read_within(1 << 20, contents_max, files.as_bytes(), |_| ());
    assert!(matches!(within(11), Err(TextError::Size)));
    assert_eq!(within(12).map(|rows| rows.len()).unwrap_or(0), 3);
}
