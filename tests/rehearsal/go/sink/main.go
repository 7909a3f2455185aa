// An S3 server that keeps no byte of an object: it counts, and remembers sizes and checksums. It
// shows what a client takes by itself. Signatures are not looked at, and contents not compared.
//
// Usage: sink HOST:PORT [CERTIFICATE KEY]
package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	counts   = "/-/counts"
	checksum = "X-Amz-Checksum-Sha256"
	meta     = "X-Amz-Meta-"
	region   = "us-east-1"
	buffer   = 256 << 10
)

type object struct {
	size     int64
	checksum string
	etag     string
	modified time.Time
	meta     http.Header
}

type upload struct {
	parts map[int]object
	meta  http.Header
}

type sink struct {
	lock            sync.Mutex
	objects         map[string]object
	uploads         map[string]*upload
	begun           int
	requests, bytes atomic.Int64
	buffers         sync.Pool
}

func main() {
	one := &sink{objects: map[string]object{}, uploads: map[string]*upload{}}
	one.buffers.New = func() any { return make([]byte, buffer) }
	if len(os.Args) == 4 {
		log.Fatal(http.ListenAndServeTLS(os.Args[1], os.Args[2], os.Args[3], one))
	}
	log.Fatal(http.ListenAndServe(os.Args[1], one))
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == counts {
		s.tell(w)
		return
	}
	s.requests.Add(1)
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	switch {
	case key == "":
		s.bucket(w, r, bucket)
	case r.Method == http.MethodPost && query.Has("uploads"):
		s.begin(w, r, bucket, key)
	case r.Method == http.MethodPost && query.Has("uploadId"):
		s.complete(w, r, bucket, key)
	case r.Method == http.MethodPut && query.Has("uploadId"):
		s.part(w, r)
	case r.Method == http.MethodPut:
		s.put(w, r, bucket+"/"+key)
	case r.Method == http.MethodHead:
		s.head(w, bucket+"/"+key)
	case r.Method == http.MethodDelete:
		s.remove(w, bucket+"/"+key)
	case r.Method == http.MethodGet && !s.has(bucket+"/"+key):
		refuse(w, http.StatusNotFound, "NoSuchKey")
	default:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

// tell gives what was counted since it was asked last.
func (s *sink) tell(w http.ResponseWriter) {
	_ = json.NewEncoder(w).Encode(map[string]int64{
		"requests": s.requests.Swap(0), "bytes": s.bytes.Swap(0),
	})
}

func (s *sink) bucket(w http.ResponseWriter, r *http.Request, bucket string) {
	query := r.URL.Query()
	switch {
	case r.Method != http.MethodGet:
		_ = s.swallow(r)
	case query.Has("uploads"):
		answer(w, `<ListMultipartUploadsResult><Bucket>%s</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`, escape(bucket))
	case query.Has("location"):
		answer(w, `<LocationConstraint>%s</LocationConstraint>`, region)
	default:
		s.list(w, bucket, query.Get("prefix"))
	}
}

// list gives all objects below a prefix in one answer, however many they are.
func (s *sink) list(w http.ResponseWriter, bucket, prefix string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	var keys []string
	for name := range s.objects {
		if key := strings.TrimPrefix(name, bucket+"/"); strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var text strings.Builder
	for _, key := range keys {
		found := s.objects[bucket+"/"+key]
		fmt.Fprintf(&text,
			`<Contents><Key>%s</Key><LastModified>%s</LastModified><ETag>%s</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`,
			escape(key), found.modified.UTC().Format(time.RFC3339), escape(found.etag), found.size)
	}
	answer(w, `<ListBucketResult><Name>%s</Name><Prefix>%s</Prefix><KeyCount>%d</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>%s</ListBucketResult>`,
		escape(bucket), escape(prefix), len(keys), text.String())
}

func (s *sink) begin(w http.ResponseWriter, r *http.Request, bucket, key string) {
	_ = s.swallow(r)
	s.lock.Lock()
	s.begun++
	id := strconv.Itoa(s.begun)
	s.uploads[id] = &upload{parts: map[int]object{}, meta: metadata(r)}
	s.lock.Unlock()
	if algorithm := r.Header.Get("X-Amz-Checksum-Algorithm"); algorithm != "" {
		w.Header().Set("X-Amz-Checksum-Algorithm", algorithm)
	}
	answer(w, `<InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>`,
		escape(bucket), escape(key), id)
}

func (s *sink) part(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	number, err := strconv.Atoi(query.Get("partNumber"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidArgument")
		return
	}
	found, err := s.take(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	s.lock.Lock()
	begun := s.uploads[query.Get("uploadId")]
	if begun != nil {
		begun.parts[number] = found
	}
	s.lock.Unlock()
	if begun == nil {
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	describe(w, found)
}

func (s *sink) complete(w http.ResponseWriter, r *http.Request, bucket, key string) {
	_ = s.swallow(r)
	id := r.URL.Query().Get("uploadId")
	s.lock.Lock()
	defer s.lock.Unlock()
	begun := s.uploads[id]
	if begun == nil {
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	name := bucket + "/" + key
	if s.forbidden(r, name) {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	delete(s.uploads, id)
	whole := join(begun.parts)
	whole.meta = begun.meta
	s.objects[name] = whole
	answer(w, `<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><ETag>%s</ETag><ChecksumSHA256>%s</ChecksumSHA256></CompleteMultipartUploadResult>`,
		escape(bucket), escape(key), escape(whole.etag), whole.checksum)
}

// join gives the object that parts make, with the checksum of their checksums.
func join(parts map[int]object) object {
	whole := object{modified: time.Now(), etag: fmt.Sprintf(`"sink-%d"`, len(parts))}
	digests := sha256.New()
	known := true
	for number := 1; number <= len(parts); number++ {
		part := parts[number]
		whole.size += part.size
		raw, err := base64.StdEncoding.DecodeString(part.checksum)
		known = known && err == nil && len(raw) == sha256.Size
		digests.Write(raw)
	}
	if known {
		sum := base64.StdEncoding.EncodeToString(digests.Sum(nil))
		whole.checksum = fmt.Sprintf("%s-%d", sum, len(parts))
	}
	return whole
}

func (s *sink) put(w http.ResponseWriter, r *http.Request, name string) {
	found, err := s.take(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	found.meta = metadata(r)
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.forbidden(r, name) {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	s.objects[name] = found
	describe(w, found)
}

func (s *sink) head(w http.ResponseWriter, name string) {
	s.lock.Lock()
	found, here := s.objects[name]
	s.lock.Unlock()
	if !here {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	for name, values := range found.meta {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.FormatInt(found.size, 10))
	w.Header().Set("Last-Modified", found.modified.UTC().Format(http.TimeFormat))
	describe(w, found)
}

func (s *sink) has(name string) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	_, here := s.objects[name]
	return here
}

func (s *sink) remove(w http.ResponseWriter, name string) {
	s.lock.Lock()
	delete(s.objects, name)
	s.lock.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// forbidden says whether a request must not replace what is there. The lock is held.
func (s *sink) forbidden(r *http.Request, name string) bool {
	_, here := s.objects[name]
	return here && r.Header.Get("If-None-Match") == "*"
}

// take reads a body to nowhere, and gives what is remembered of it.
func (s *sink) take(r *http.Request) (object, error) {
	if err := s.swallow(r); err != nil {
		return object{}, err
	}
	size := r.ContentLength
	if plain := r.Header.Get("X-Amz-Decoded-Content-Length"); plain != "" {
		size, _ = strconv.ParseInt(plain, 10, 64)
	}
	return object{
		size: size, checksum: r.Header.Get(checksum), etag: `"sink"`, modified: time.Now(),
	}, nil
}

// swallow reads a body in large pieces, so that it costs little more than the kernel's copy.
func (s *sink) swallow(r *http.Request) error {
	space := s.buffers.Get().([]byte)
	defer s.buffers.Put(space)
	for {
		count, err := r.Body.Read(space)
		s.bytes.Add(int64(count))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func metadata(r *http.Request) http.Header {
	kept := http.Header{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, meta) {
			kept[name] = values
		}
	}
	return kept
}

func describe(w http.ResponseWriter, found object) {
	w.Header().Set("ETag", found.etag)
	if found.checksum != "" {
		w.Header().Set(checksum, found.checksum)
	}
	w.WriteHeader(http.StatusOK)
}

func answer(w http.ResponseWriter, form string, values ...any) {
	w.Header().Set("Content-Type", "application/xml")
	_, _ = io.WriteString(w, xml.Header+fmt.Sprintf(form, values...))
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `%s<Error><Code>%s</Code><Message>a sink</Message></Error>`, xml.Header, code)
}

func escape(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text))
	return out.String()
}
