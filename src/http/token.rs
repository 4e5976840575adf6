//! Where a viewer's token is in a request, and how it gets into the requests that follow.
//!
//! A player that got `/live/x.m3u8?token=T` asks for what that playlist lists, and few players can be told to add
//! something to that. So the playlist that is asked for with a token leads to `~T/…`: from there on everything is
//! relative, and all viewers share the same playlists.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};

/// What marks a token in a path.
const MARK: char = '~';
/// The same behind a folder.
const IN_FOLDER: &str = "/~";
/// The name of a token in a query.
const NAME: &str = "token";

/// A request for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// The file.
    pub(super) name: Cow<'a, str>,
    /// The token, if there is one.
    pub(super) token: Option<&'a str>,
    /// It is in the query, where what the file leads to does not get it.
    pub(super) in_query: bool,
}

impl<'a> Asked<'a> {
    /// Reads the path below `/live/`, the query and the header lines.
    pub(super) fn read(path: &'a str, query: &'a str, headers: &'a HeaderMap) -> Self {
        if let Some((token, name)) = in_path(path) {
            return Self { name, token: Some(token), in_query: false };
        }
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let in_query = pairs.filter(|(name, _)| *name == NAME).map(|(_, token)| token).next();
        Self { name: path.into(), token: in_query.or_else(|| bearer(headers)), in_query: in_query.is_some() }
    }
}

/// The token in a path, and the path without it: a playlist in a folder leads to where its token is in that folder.
fn in_path(path: &str) -> Option<(&str, Cow<'_, str>)> {
    if let Some(rest) = path.strip_prefix(MARK) {
        let (token, name) = rest.split_once('/')?;
        return Some((token, name.into()));
    }
    let (folder, rest) = path.split_once(IN_FOLDER)?;
    let (token, name) = rest.split_once('/')?;
    Some((token, format!("{folder}/{name}").into()))
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A playlist all of whose URIs lead to where `token` goes with them.
pub(super) fn leading(playlist: &str, token: &str) -> String {
    let (uri, leading) = ("URI=\"", format!("URI=\"{MARK}{token}/"));
    let mut text = String::with_capacity(playlist.len() * 2);
    for line in playlist.lines() {
        if line.starts_with('#') {
            let line = if line.contains(uri) { Cow::Owned(line.replace(uri, &leading)) } else { line.into() };
            text.push_str(&line);
        } else if !line.is_empty() {
            text.push(MARK);
            text.push_str(token);
            text.push('/');
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

/// A DASH manifest all of whose URIs lead there (ISO/IEC 23009-1 section 5.6).
pub(super) fn leading_manifest(manifest: &str, token: &str) -> String {
    manifest.replacen("<Period", &format!("<BaseURL>{MARK}{token}/</BaseURL><Period"), 1)
}

/// A list of thumbnails all of whose URIs lead there.
pub(super) fn leading_cues(cues: &str, token: &str) -> String {
    let mut text = String::with_capacity(cues.len() * 2);
    for line in cues.lines() {
        if line.contains("#xywh=") {
            text.extend([&MARK.to_string(), token, "/"]);
        }
        text.extend([line, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_found_in_path_query_and_header() {
        let mut headers = HeaderMap::new();
        let read = |path, query| {
            let empty = HeaderMap::new();
            let Asked { name, token, in_query } = Asked::read(path, query, &empty);
            (name.into_owned(), token.map(str::to_owned), in_query)
        };
        let found = |name: &str, token: &str, in_query| (name.to_owned(), Some(token.to_owned()), in_query);
        assert_eq!(read("a.m3u8", ""), ("a.m3u8".into(), None, false));
        assert_eq!(read("a.m3u8", "token=x.y"), found("a.m3u8", "x.y", true));
        assert_eq!(read("a.m3u8", "_HLS_msn=3&token=x.y&z"), found("a.m3u8", "x.y", true));
        assert_eq!(read("~x.y/a.m3u8", "token=other"), found("a.m3u8", "x.y", false));
        assert_eq!(read("~x.y", ""), ("~x.y".into(), None, false));
        assert_eq!(read("p/~x.y/720p/a.ts", ""), found("p/720p/a.ts", "x.y", false));
        assert_eq!(read("p/720p/~x.y/a.ts", "token=other"), found("p/720p/a.ts", "x.y", false));
        assert_eq!(read("p/~x.y", ""), ("p/~x.y".into(), None, false));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer x.y"));
        assert_eq!(
            Asked::read("a", "", &headers),
            Asked { name: "a".into(), token: Some("x.y"), in_query: false }
        );
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic x.y"));
        assert_eq!(Asked::read("a", "", &headers).token, None);
    }

    #[test]
    fn every_uri_of_a_playlist_takes_the_token_along() {
        let master = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"A\",URI=\"p-audio.m3u8\"\n#EXT-X-STREAM-INF:X\np-video.m3u8\n";
        assert_eq!(
            leading(master, "T.S"),
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"A\",URI=\"~T.S/p-audio.m3u8\"\n#EXT-X-STREAM-INF:X\n\
             ~T.S/p-video.m3u8\n"
        );
        let media = "#EXT-X-MAP:URI=\"i.mp4\"\n#EXT-X-PART:DURATION=1,URI=\"p.m4s\"\n#EXTINF:2,\ns.m4s\n";
        assert_eq!(leading(media, "T").matches("~T/").count(), 3);
    }
    #[test]
    fn a_list_of_thumbnails_takes_the_token_along() {
        let cues = "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\np-thumbnails-64.jpg#xywh=0,0,160,90\n";
        let led = leading_cues(cues, "T.S");
        assert_eq!(led, cues.replace("p-thumbnails", "~T.S/p-thumbnails"));
    }

    #[test]
    fn a_manifest_takes_the_token_along_before_its_first_period() {
        let manifest = "<MPD type=\"dynamic\"><Period id=\"0\"/><Period id=\"1\"/></MPD>";
        assert_eq!(
            leading_manifest(manifest, "T.S"),
            "<MPD type=\"dynamic\"><BaseURL>~T.S/</BaseURL><Period id=\"0\"/><Period id=\"1\"/></MPD>"
        );
    }
}
