use std::collections::BTreeSet;
use std::io::Write;

use clap::Parser;

use super::*;

const EXAMPLE: &str = include_str!("../../weir.example.toml");

fn no_env(_: &str) -> Option<String> {
    None
}

fn with_file(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
    Config::load(&flags, no_env)
}

/// The sample file with every setting switched on: a setting is a `#` with no blank behind it.
fn example_switched_on() -> String {
    let switch_on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') && !setting.is_empty() => setting.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(switch_on).collect::<Vec<_>>().join("\n")
}

fn paths(table: &Table) -> BTreeSet<String> {
    env::leaves(table).into_iter().map(|(path, _)| path.join(".")).collect()
}

#[test]
fn the_sample_file_holds_every_setting_with_its_default() {
    let switched_on = example_switched_on();
    let table: Table = toml::from_str(&switched_on).unwrap();
    assert_eq!(paths(&table), paths(&Config::default().to_table()));
    assert_eq!(toml::from_str::<Config>(&switched_on).unwrap(), Config::default());
}

#[test]
fn the_sample_file_as_it_is_changes_nothing() {
    assert_eq!(with_file(EXAMPLE).unwrap(), Config::default());
}

#[test]
fn the_defaults_are_valid_and_print_as_a_file_that_reads_back() {
    let config = Config::load(&Flags::default(), no_env).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(with_file(&config.to_toml()).unwrap(), config);
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:4000");
    assert_eq!(config.rtc.listen, ["0.0.0.0:40000".parse::<SocketAddr>().unwrap()]);
}

/// Another value than the default, which the same setting accepts, as text and as a value.
fn another(path: &str, default: &Value) -> (String, Value) {
    let strings =
        |items: &[&str]| Value::Array(items.iter().map(|item| Value::String((*item).into())).collect());
    match default {
        // 1 bit/s is no bit rate.
        Value::Integer(0) if path.ends_with("_bitrate") => ("300000".into(), Value::Integer(300_000)),
        Value::Integer(number) => {
            let other = if *number > 1 { number - 1 } else { number + 1 };
            (other.to_string(), Value::Integer(other))
        }
        Value::Float(number) => ((number / 2.0).to_string(), Value::Float(number / 2.0)),
        Value::Boolean(flag) => ((!flag).to_string(), Value::Boolean(!flag)),
        Value::Array(_) if path == "ice_servers" => {
            let server = Table::from_iter([
                ("urls".to_owned(), strings(&["stun:s.example"])),
                ("ttl_secs".to_owned(), Value::Integer(60)),
            ]);
            let text = r#"[{"urls": ["stun:s.example"], "ttl_secs": 60}]"#;
            (text.into(), Value::Array(vec![Value::Table(server)]))
        }
        Value::Array(_) if path.ends_with(".listen") => {
            ("192.0.2.1:5, [::1]:6".into(), strings(&["192.0.2.1:5", "[::1]:6"]))
        }
        Value::Array(_) if path == "broadcasters.destinations" => {
            ("192.0.2.0/24, ::1".into(), strings(&["192.0.2.0/24", "::1/128"]))
        }
        Value::Array(_) if path == "access.secrets" => {
            ("0123456789abcdef, fedcba9876543210".into(), strings(&["(hidden)", "(hidden)"]))
        }
        Value::Array(_) if path == "streams.keys" => {
            ("a:0123456789abcdef, *:fedcba9876543210".into(), strings(&["(hidden)", "(hidden)"]))
        }
        Value::Array(_) if path == "hls.ladder" => {
            ("720p, 360p:700".into(), strings(&["720p:2500", "360p:700"]))
        }
        Value::Array(_) => {
            ("192.0.2.1, media.example.org".into(), strings(&["192.0.2.1", "media.example.org"]))
        }
        Value::String(_) if path == "broadcasters.token" => {
            ("0123456789abcdef".into(), Value::String("(hidden)".into()))
        }
        Value::String(text) => {
            let other = match path {
                "log" => "debug".to_owned(),
                "hls.encryption" => "aes-128".to_owned(),
                "hls.start" => "on-demand".to_owned(),
                "rtc.plain_ports" => "5000-5009".to_owned(),
                _ if text.parse::<SocketAddr>().is_ok() => "127.0.0.1:4321".to_owned(),
                _ => "other".to_owned(),
            };
            (other.clone(), Value::String(other))
        }
        other => panic!("{path} has a type that no variable can hold: {other:?}"),
    }
}

#[test]
fn every_setting_has_a_variable_that_works() {
    for (path, default) in env::leaves(&Config::default().to_table()) {
        let (text, value) = another(&path.join("."), &default);
        let name = env::name(&path);
        let config = Config::load(&Flags::default(), |asked| (asked == name).then(|| text.clone()))
            .unwrap_or_else(|error| panic!("{name}={text}: {error}"));
        let effective = env::leaves(&config.to_table());
        let found = effective.iter().find(|(other, _)| *other == path).map(|(_, value)| value);
        assert_eq!(found, Some(&value), "{name}={text}");
        let changed = effective.len()
            - effective
                .iter()
                .filter(|leaf| env::leaves(&Config::default().to_table()).contains(leaf))
                .count();
        assert_eq!(changed, 1, "{name} changes one setting only");
    }
}

#[test]
fn the_known_variables_have_the_documented_names() {
    let names: BTreeSet<String> =
        env::leaves(&Config::default().to_table()).iter().map(|(path, _)| env::name(path)).collect();
    for name in
        ["WEIR_HTTP_LISTEN", "WEIR_RTC_LISTEN", "WEIR_RTC_ANNOUNCE", "WEIR_DATA_DIR", "WEIR_HLS_ENABLED"]
    {
        assert!(names.contains(name), "{name} is missing in {names:?}");
    }
    let given = ["WEIR_HTTP_LISTEN", "WEIR_CONFIG", "WEIR_HTP_LISTEN", "HOME"].map(str::to_owned);
    assert_eq!(unknown_names(given), ["WEIR_HTP_LISTEN"]);
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "data_dir = \"from-file\"\n[http]\nlisten = \"1.1.1.1:1\"\n[rtc]\nlisten = \"1.1.1.1:1\"\n")
        .unwrap();
    let cli = Cli::try_parse_from([
        "weir",
        "--http",
        "3.3.3.3:3",
        "serve",
        "--announce",
        "192.0.2.9",
        "--announce",
        "a.example,b.example",
    ])
    .unwrap();
    assert_eq!(cli.command, Some(Command::Serve));
    let path = file.path().to_str().unwrap().to_owned();
    let config = Config::load(&cli.flags, |name| match name {
        "WEIR_CONFIG" => Some(path.clone()),
        "WEIR_HTTP_LISTEN" | "WEIR_RTC_LISTEN" => Some("2.2.2.2:2".into()),
        _ => None,
    })
    .unwrap();
    assert_eq!(config.http.listen.to_string(), "3.3.3.3:3");
    assert_eq!(config.rtc.listen, ["2.2.2.2:2".parse::<SocketAddr>().unwrap()]);
    assert_eq!(config.data_dir, PathBuf::from("from-file"));
    assert_eq!(config.rtc.announce, ["192.0.2.9", "a.example", "b.example"]);
}

#[test]
fn flags_work_with_and_without_a_command() {
    for line in [
        &["weir", "--http", "127.0.0.1:1"][..],
        &["weir", "serve", "--http", "127.0.0.1:1"],
        &["weir", "check-config", "--http", "127.0.0.1:1"],
    ] {
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.flags.http, Some("127.0.0.1:1".parse().unwrap()));
    }
}

#[test]
fn an_unknown_setting_is_an_error_that_names_it() {
    let error = with_file("[http]\nlisten_on = \"0.0.0.0:1\"\n").unwrap_err().to_string();
    assert!(error.contains("listen_on") && error.contains("line 2"), "{error}");
    let error = with_file("[htp]\n").unwrap_err().to_string();
    assert!(error.contains("htp"), "{error}");
}

#[test]
fn a_value_that_does_not_fit_is_an_error_that_names_its_setting() {
    let error = with_file("[rtc]\nworkers = 0\n").unwrap_err().to_string();
    assert!(error.contains("rtc.workers"), "{error}");
    let error = with_file("log = \"weir=loud\"\n").unwrap_err().to_string();
    assert!(error.contains("log"), "{error}");
    let error = with_file("[rtc]\nannounce = [\"a b\"]\n").unwrap_err().to_string();
    assert!(error.contains("rtc.announce"), "{error}");
    let error = with_file("[rtc]\nlisten = \"0.0.0.0:65535\"\nworkers = 2\n").unwrap_err().to_string();
    assert!(error.contains("rtc.listen"), "{error}");
    for listen in ["[]", r#"["0.0.0.0:4", "0.0.0.0:4"]"#, r#""nowhere""#] {
        let error = with_file(&format!("[rtc]\nlisten = {listen}\n")).unwrap_err().to_string();
        assert!(error.contains("listen"), "{error}");
    }
    let error = with_file("[rtc]\nplain_ports = \"9-8\"\n").unwrap_err().to_string();
    assert!(error.contains("range of ports"), "{error}");
    for (name, text) in
        [("WEIR_HTTP_LISTEN", "nowhere"), ("WEIR_RTC_WORKERS", "two"), ("WEIR_HLS_ENABLED", "maybe")]
    {
        let error =
            Config::load(&Flags::default(), |asked| (asked == name).then(|| text.to_owned())).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn what_is_kept_is_not_made_on_demand_only() {
    for (hls, wrong) in [
        ("start = \"on-demand\"\nwrite_to_disk = true", Some("hls.start")),
        ("start = \"on-demand\"\ndvr_secs = 60", Some("hls.start")),
        ("start = \"sometimes\"", Some("start")),
        ("idle_secs = 9", Some("hls.idle_secs")),
        ("start = \"on-demand\"\nidle_secs = 0", None),
        ("start = \"always\"\ndvr_secs = 60", None),
    ] {
        let error = with_file(&format!("[hls]\n{hls}\n")).err().map(|error| error.to_string());
        assert_eq!(
            error.as_ref().is_some_and(|error| error.contains(wrong.unwrap_or_default())),
            wrong.is_some(),
            "{hls}: {error:?}"
        );
    }
}

#[test]
fn a_file_that_is_missing_is_an_error_that_names_it() {
    let flags = Flags { config: Some("/nonexistent/weir.toml".into()), ..Flags::default() };
    let error = Config::load(&flags, no_env).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/weir.toml"), "{error}");
}

#[test]
fn the_secret_of_a_turn_server_is_read_and_never_printed() {
    let file = "[[ice_servers]]\nurls = [\"turn:t.example:3478\"]\nsecret = \"hush-hush\"\n";
    let config = with_file(file).unwrap();
    let json = r#"[{"urls": ["turn:t.example:3478"], "secret": "hush-hush"}]"#;
    let given = |name: &str, text: &str| {
        Config::load(&Flags::default(), |asked| (asked == name).then(|| text.to_owned()))
    };
    assert_eq!(given("WEIR_ICE_SERVERS", json).unwrap(), config);
    let told = live::ice_servers::told(&config.ice_servers, std::time::SystemTime::now(), "anna");
    assert!(told[0].credential.is_some());
    let printed = format!("{} {config:?}", config.to_toml());
    assert!(printed.contains("turn:t.example:3478") && !printed.contains("hush"), "{printed}");
    for wrong in
        [file.replace("secret", "secrte"), file.replace("urls", "uris"), file.replace("hush\"", "hush")]
    {
        let error = with_file(&wrong).unwrap_err().to_string();
        assert!(error.contains("line") && !error.contains("hush"), "{error}");
    }
    for wrong in [json.replace("secret", "secrte"), json.replace("}]", "}"), json.replace("turn:", "http:")] {
        let error = given("WEIR_ICE_SERVERS", &wrong).unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn one_listen_address_needs_no_brackets() {
    let listen = |text: &str| with_file(&format!("[rtc]\nlisten = {text}\n")).unwrap().rtc.listen;
    assert_eq!(listen(r#""127.0.0.1:4""#), listen(r#"["127.0.0.1:4"]"#));
    assert_eq!(listen(r#"["127.0.0.1:4", "[::1]:4"]"#).len(), 2);
    let cli = Cli::try_parse_from(["weir", "--rtc", "1.1.1.1:1,[::1]:2", "--rtc", "2.2.2.2:2"]).unwrap();
    assert_eq!(Config::load(&cli.flags, no_env).unwrap().rtc.listen.len(), 3);
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let config = Config::load(&Flags::default(), |_| Some(String::new())).unwrap();
    assert_eq!(config, Config::default());
}
