// The reference etcd server, built through Go modules: the released module of the server cannot be
// installed directly, because its go.mod has replace directives.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
