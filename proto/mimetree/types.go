package mimetree

import "strings"

// types are the media types of usual names of files. The first extension of a type is the one that a
// file without a name gets.
var types = []struct{ ext, media string }{
	{"txt", "text/plain"},
	{"text", "text/plain"},
	{"log", "text/plain"},
	{"asc", "text/plain"},
	{"diff", "text/x-diff"},
	{"patch", "text/x-diff"},
	{"html", "text/html"},
	{"htm", "text/html"},
	{"css", "text/css"},
	{"csv", "text/csv"},
	{"tsv", "text/tab-separated-values"},
	{"md", "text/markdown"},
	{"ics", "text/calendar"},
	{"vcf", "text/vcard"},
	{"rtf", "application/rtf"},
	{"xml", "application/xml"},
	{"c", "text/x-c"},
	{"h", "text/x-c"},
	{"go", "text/x-go"},
	{"py", "text/x-python"},
	{"sh", "text/x-shellscript"},
	{"js", "text/javascript"},
	{"jpg", "image/jpeg"},
	{"jpeg", "image/jpeg"},
	{"jpe", "image/jpeg"},
	{"gif", "image/gif"},
	{"png", "image/png"},
	{"webp", "image/webp"},
	{"bmp", "image/bmp"},
	{"tiff", "image/tiff"},
	{"tif", "image/tiff"},
	{"svg", "image/svg+xml"},
	{"ico", "image/vnd.microsoft.icon"},
	{"avif", "image/avif"},
	{"heic", "image/heic"},
	{"jxl", "image/jxl"},
	{"au", "audio/basic"},
	{"snd", "audio/basic"},
	{"726", "audio/32kadpcm"},
	{"mp3", "audio/mpeg"},
	{"m4a", "audio/mp4"},
	{"ogg", "audio/ogg"},
	{"oga", "audio/ogg"},
	{"opus", "audio/ogg"},
	{"flac", "audio/flac"},
	{"wav", "audio/x-wav"},
	{"mid", "audio/midi"},
	{"aac", "audio/aac"},
	{"mpeg", "video/mpeg"},
	{"mpg", "video/mpeg"},
	{"mpe", "video/mpeg"},
	{"mov", "video/quicktime"},
	{"qt", "video/quicktime"},
	{"mp4", "video/mp4"},
	{"m4v", "video/mp4"},
	{"webm", "video/webm"},
	{"mkv", "video/x-matroska"},
	{"avi", "video/x-msvideo"},
	{"ogv", "video/ogg"},
	{"pdf", "application/pdf"},
	{"ps", "application/postscript"},
	{"eps", "application/postscript"},
	{"json", "application/json"},
	{"doc", "application/msword"},
	{"dot", "application/msword"},
	{"xls", "application/vnd.ms-excel"},
	{"ppt", "application/vnd.ms-powerpoint"},
	{"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
	{"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
	{"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
	{"odt", "application/vnd.oasis.opendocument.text"},
	{"ods", "application/vnd.oasis.opendocument.spreadsheet"},
	{"odp", "application/vnd.oasis.opendocument.presentation"},
	{"epub", "application/epub+zip"},
	{"tex", "application/x-tex"},
	{"zip", "application/zip"},
	{"gz", "application/gzip"},
	{"tgz", "application/gzip"},
	{"bz2", "application/x-bzip2"},
	{"xz", "application/x-xz"},
	{"zst", "application/zstd"},
	{"7z", "application/x-7z-compressed"},
	{"tar", "application/x-tar"},
	{"rar", "application/vnd.rar"},
	{"jar", "application/java-archive"},
	{"deb", "application/vnd.debian.binary-package"},
	{"rpm", "application/x-rpm"},
	{"iso", "application/x-iso9660-image"},
	{"sql", "application/sql"},
	{"p7s", "application/pkcs7-signature"},
	{"p7m", "application/pkcs7-mime"},
	{"sig", "application/pgp-signature"},
	{"pgp", "application/pgp-encrypted"},
	{"key", "application/pgp-keys"},
	{"pem", "application/x-pem-file"},
	{"eml", "message/rfc822"},
	{"wasm", "application/wasm"},
	{"woff", "font/woff"},
	{"woff2", "font/woff2"},
	{"ttf", "font/ttf"},
	{"otf", "font/otf"},
	{"bin", "application/octet-stream"},
	{"exe", "application/octet-stream"},
	{"dll", "application/octet-stream"},
	{"dat", "application/octet-stream"},
}

var (
	typeOf      = map[string]string{}
	extensionOf = map[string]string{}
)

func init() {
	for _, t := range types {
		typeOf[t.ext] = t.media
		if extensionOf[t.media] == "" {
			extensionOf[t.media] = "." + t.ext
		}
	}
	extensionOf["text/xml"] = ".xml"
	extensionOf["text/rtf"] = ".rtf"
	extensionOf["image/jpg"] = ".jpg"
	extensionOf["application/x-gzip"] = ".gz"
	extensionOf["application/x-zip-compressed"] = ".zip"
	extensionOf["application/x-pdf"] = ".pdf"
	extensionOf["application/x-pkcs7-signature"] = ".p7s"
}

// TypeByName tells a media type by the end of a file's name, "" when it says nothing.
func TypeByName(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return ""
	}
	return typeOf[strings.ToLower(name[i+1:])]
}

// ExtensionOf is the usual end of a file's name for a media type, with its dot; "" when there is
// none.
func ExtensionOf(media string) string { return extensionOf[media] }
