// Verifies an exported record with the packages that verify Go's checksum database, and nothing of ours.
//
//	sumdb LOG PROOFS: the export (form `tiles`), and a directory with proofs:
//	  <index>.tlog-proof   inclusion of that record
//	  old, consistency     an older checkpoint, and the proof that the log goes on from it
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Tiles of the log, read from its directory.
type tiles string

func (dir tiles) Height() int { return 8 }

func (dir tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range want {
		// C2SP paths do not name the height, which is always 8.
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(dir), path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (dir tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func main() {
	log, proofs := os.Args[1], os.Args[2]
	key, err := note.NewVerifier(strings.TrimSpace(read(log, "public.key")))
	check(err, "the public key")
	head := open(read(log, "checkpoint"), key)
	hashes := tlog.TileHashReader(head, tiles(log))
	leaves := entries(log, head.N)
	for n, leaf := range leaves {
		stored, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(n))})
		check(err, fmt.Sprintf("the tile of record %d", n))
		if stored[0] != tlog.RecordHash(leaf) {
			fail(fmt.Sprintf("record %d is not the one that its tile says", n))
		}
	}
	found, err := filepath.Glob(filepath.Join(proofs, "*.tlog-proof"))
	check(err, "the proofs")
	for _, path := range found {
		lines, tree := proof(read(path, ""), key)
		if lines[0] != "c2sp.org/tlog-proof@v1" {
			fail("not a proof of inclusion")
		}
		n, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
		check(err, "the index")
		err = tlog.CheckRecord(parse(lines[2:]), tree.N, tree.Hash, n, tlog.RecordHash(leaves[n]))
		check(err, path)
	}
	old := open(read(proofs, "old"), key)
	lines, tree := proof(read(proofs, "consistency"), key)
	check(tlog.CheckTree(parse(lines[1:]), tree.N, tree.Hash, old.N, old.Hash), "consistency")
	fmt.Printf("verified %d records, %d proofs, from %d on\n", len(leaves), len(found), old.N)
}

// open reads a checkpoint whose signature fits.
func open(text string, key note.Verifier) tlog.Tree {
	signed, err := note.Open([]byte(text), note.VerifierList(key))
	check(err, "the checkpoint")
	lines := strings.Split(signed.Text, "\n")
	if lines[0] != key.Name() {
		fail("the origin is not the key's name")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, "the size")
	root, err := tlog.ParseHash(lines[2])
	check(err, "the root")
	return tlog.Tree{N: size, Hash: root}
}

// entries reads the leaves from their bundles.
func entries(log string, size int64) [][]byte {
	var all [][]byte
	for first := int64(0); first < size; first += 256 {
		width := size - first
		if width > 256 {
			width = 256
		}
		path := tlog.Tile{H: 8, L: 0, N: first / 256, W: int(width)}.Path()
		data := []byte(read(log, strings.Replace(path, "tile/8/0/", "tile/entries/", 1)))
		for ; width > 0; width-- {
			length := int(binary.BigEndian.Uint16(data))
			all = append(all, data[2:2+length])
			data = data[2+length:]
		}
		if len(data) > 0 {
			fail("bytes after the last entry")
		}
	}
	return all
}

// proof splits a proof into its lines and the checkpoint below them.
func proof(text string, key note.Verifier) ([]string, tlog.Tree) {
	head, signed, cut := strings.Cut(text, "\n\n")
	if !cut {
		fail("not a proof")
	}
	return strings.Split(head, "\n"), open(signed, key)
}

func parse(lines []string) []tlog.Hash {
	var all []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		check(err, "a hash")
		all = append(all, hash)
	}
	return all
}

func read(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	check(err, "a file")
	return string(data)
}

func check(err error, what string) {
	if err != nil {
		fail(what + ": " + err.Error())
	}
}

func fail(what string) {
	fmt.Fprintln(os.Stderr, what)
	os.Exit(1)
}
