// Packs files with Go's archive/tar (ustar | pax | gnu), or extracts them: pack FORMAT ARCHIVE FOLDER NAMES... | extract ARCHIVE FOLDER.
package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"time"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	formats := map[string]tar.Format{"ustar": tar.FormatUSTAR, "pax": tar.FormatPAX, "gnu": tar.FormatGNU}
	if os.Args[1] == "extract" {
		in, err := os.Open(os.Args[2])
		check(err)
		for r := tar.NewReader(in); ; {
			h, err := r.Next()
			if err == io.EOF {
				return
			}
			check(err)
			path := filepath.Join(os.Args[3], h.Name)
			check(os.MkdirAll(filepath.Dir(path), 0o755))
			out, err := os.Create(path)
			check(err)
			_, err = io.Copy(out, r)
			check(err)
			check(out.Close())
		}
	}
	out, err := os.Create(os.Args[2])
	check(err)
	w := tar.NewWriter(out)
	for _, name := range os.Args[4:] {
		data, err := os.ReadFile(filepath.Join(os.Args[3], name))
		check(err)
		h := &tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644, Format: formats[os.Args[1]]}
		if h.Format != tar.FormatUSTAR {
			h.AccessTime, h.ChangeTime = time.Unix(1700000000, 0), time.Unix(1700000001, 0)
		}
		check(w.WriteHeader(h))
		_, err = w.Write(data)
		check(err)
	}
	check(w.Close())

}
