// Verify-ledger checks a folder written by `mantlet audit export`, with Go's code for signed notes and Merkle
// trees (golang.org/x/mod/sumdb, behind Go's checksum database) and none of Mantlet's.
//
//	verify-ledger -key FILE [-since CHECKPOINT] DIR
//
// It opens the checkpoint with the key, compares every record with its leaf in the tiles, builds the root anew
// from the records, and proves records from the tiles against the signed root: each, or some of every tile when
// there are 10,000 or more. With -since it also proves that the log only grew since that checkpoint. It exits with 1
// at the first thing that is wrong, and names the record where one can be told, counted from 0.
//
// It does not read the export's log.key, which proves nothing, and no file that the tree doesn't need.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// C2SP fixes tiles at 256 hashes, a height of 8, and leaves the height out of their paths.
const (
	height = 8
	width  = 1 << height
)

func main() {
	key := flag.String("key", "", "`file` with the log's public key, got by a way you trust")
	since := flag.String("since", "", "`file` with an earlier checkpoint of the same log")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: verify-ledger -key FILE [-since CHECKPOINT] DIR")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *key == "" || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	tree, err := verify(flag.Arg(0), *key, *since)
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify-ledger:", err)
		os.Exit(1)
	}
	fmt.Printf("verified %d records under root %v\n", tree.N, tree.Hash)
}

// verify returns the signed tree if all of the export stands under it.
func verify(dir, keyFile, since string) (tlog.Tree, error) {
	key, err := readKey(keyFile)
	if err != nil {
		return tlog.Tree{}, err
	}
	signed, err := openCheckpoint(filepath.Join(dir, "checkpoint"), key)
	if err != nil {
		return tlog.Tree{}, err
	}
	leaves, err := readLeaves(filepath.Join(dir, "records.ndjson"))
	if err != nil {
		return tlog.Tree{}, err
	}
	tiles := &tileDir{dir: dir, known: map[string][]byte{}}
	if err := checkLeaves(leaves, signed, tiles); err != nil {
		return tlog.Tree{}, err
	}
	if err := checkRoot(leaves, signed); err != nil {
		return tlog.Tree{}, err
	}
	if err := proveRecords(leaves, signed, tiles); err != nil {
		return tlog.Tree{}, err
	}
	if since != "" {
		err = proveGrowth(since, key, signed, tiles)
	}
	return signed, err
}

func readKey(file string) (note.Verifier, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := note.NewVerifier(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// openCheckpoint returns the tree that a checkpoint is signed over. Signatures of other keys are passed over, as
// C2SP wants it.
func openCheckpoint(file string, key note.Verifier) (tlog.Tree, error) {
	msg, err := os.ReadFile(file)
	if err != nil {
		return tlog.Tree{}, err
	}
	signed, err := note.Open(msg, note.VerifierList(key))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("%s: %w", file, err)
	}
	origin, head, _ := strings.Cut(signed.Text, "\n")
	if origin != key.Name() {
		return tlog.Tree{}, fmt.Errorf("%s: it is the checkpoint of %q, the key is that of %q", file, origin, key.Name())
	}
	// ParseTree reads C2SP's lines under the one origin that Go's checksum database has.
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + head))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("%s: %w", file, err)
	}
	return tree, nil
}

// readLeaves hashes each line of a file, without its newline.
func readLeaves(file string) ([]tlog.Hash, error) {
	data, err := os.ReadFile(file)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	lines := bytes.Split(data, []byte("\n"))
	last := len(lines) - 1
	if len(lines[last]) != 0 {
		return nil, fmt.Errorf("record %d: %s does not end with a newline", last, file)
	}
	leaves := make([]tlog.Hash, last)
	for i, line := range lines[:last] {
		leaves[i] = tlog.RecordHash(line)
	}
	return leaves, nil
}

// checkLeaves compares records and tiles with each other, which trusts neither but tells which record differs.
func checkLeaves(leaves []tlog.Hash, signed tlog.Tree, tiles *tileDir) error {
	have := int64(len(leaves))
	for start := int64(0); start < signed.N && start < have; start += width {
		tile := tlog.Tile{H: height, N: start / width, W: int(smaller(width, signed.N-start))}
		data, err := tiles.read(tile)
		if err != nil {
			return fmt.Errorf("record %d: %w", start, err)
		}
		for i := start; i < smaller(have, start+int64(tile.W)); i++ {
			at := (i - start) * tlog.HashSize
			if !bytes.Equal(leaves[i][:], data[at:at+tlog.HashSize]) {
				return fmt.Errorf("record %d: its hash is not the one in %s", i, path(tile))
			}
		}
	}
	if have != signed.N {
		first := smaller(have, signed.N)
		return fmt.Errorf("record %d: the checkpoint is signed over %d records, here are %d", first, signed.N, have)
	}
	return nil
}

// checkRoot builds the tree from the records alone.
func checkRoot(leaves []tlog.Hash, signed tlog.Tree) error {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			hashes[i] = stored[index]
		}
		return hashes, nil
	})
	for n, leaf := range leaves {
		made, err := tlog.StoredHashesForRecordHash(int64(n), leaf, reader)
		if err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		stored = append(stored, made...)
	}
	root, err := treeHash(signed.N, reader)
	if err == nil && root != signed.Hash {
		err = fmt.Errorf("the records have root %v, signed is %v", root, signed.Hash)
	}
	return err
}

// proveRecords proves records one by one: a path from the tiles, which have to fit the signed root as well. A proof
// takes a third of a millisecond, so of 10,000 records and more it takes some from every tile.
func proveRecords(leaves []tlog.Hash, signed tlog.Tree, tiles *tileDir) error {
	reader := tlog.TileHashReader(signed, tiles)
	for n := int64(0); n < signed.N; n += smaller(width, 1+signed.N/10_000) {
		proof, err := tlog.ProveRecord(signed.N, n, reader)
		if err == nil {
			err = tlog.CheckRecord(proof, signed.N, signed.Hash, n, leaves[n])
		}
		if err != nil {
			return fmt.Errorf("record %d: the tiles do not prove it: %w", n, err)
		}
	}
	return nil
}

// proveGrowth proves that an earlier checkpoint's tree is the beginning of the signed one.
func proveGrowth(file string, key note.Verifier, signed tlog.Tree, tiles *tileDir) error {
	earlier, err := openCheckpoint(file, key)
	if err != nil {
		return err
	}
	if earlier.N > signed.N {
		return fmt.Errorf("record %d: %s is signed over %d records: the log was cut", signed.N, file, earlier.N)
	}
	if earlier.N == 0 { // Go proves nothing about an empty tree.
		if root, _ := treeHash(0, nil); earlier.Hash != root {
			return fmt.Errorf("%s: not the root of an empty log", file)
		}
		return nil
	}
	proof, err := tlog.ProveTree(signed.N, earlier.N, tlog.TileHashReader(signed, tiles))
	if err == nil {
		err = tlog.CheckTree(proof, signed.N, signed.Hash, earlier.N, earlier.Hash)
	}
	if err != nil {
		return fmt.Errorf("%s: the first %d records are others now: %w", file, earlier.N, err)
	}
	return nil
}

// treeHash is tlog.TreeHash with RFC 6962's root of an empty tree, where older versions have zeros.
func treeHash(n int64, reader tlog.HashReader) (tlog.Hash, error) {
	if n == 0 {
		return sha256.Sum256(nil), nil
	}
	return tlog.TreeHash(n, reader)
}

// tileDir reads the tiles below a folder, each once.
type tileDir struct {
	dir   string
	known map[string][]byte
}

// Height implements tlog.TileReader.
func (t *tileDir) Height() int { return height }

// SaveTiles implements tlog.TileReader.
func (t *tileDir) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles implements tlog.TileReader.
func (t *tileDir) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, tile := range tiles {
		data, err := t.read(tile)
		if err != nil {
			return nil, err
		}
		all[i] = data
	}
	return all, nil
}

func (t *tileDir) read(tile tlog.Tile) ([]byte, error) {
	name := path(tile)
	if data, ok := t.known[name]; ok {
		return data, nil
	}
	data, err := os.ReadFile(filepath.Join(t.dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	if len(data) != tile.W*tlog.HashSize {
		return nil, errors.New(name + " has not the length that its name says")
	}
	t.known[name] = data
	return data, nil
}

// path is tile/L/N as C2SP has it; Go's own is tile/8/L/N.
func path(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
}

func smaller(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
