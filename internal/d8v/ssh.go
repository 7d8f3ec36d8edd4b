// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// sshOptions are what ssh and scp have in common.
type sshOptions struct {
	user       string
	identity   string
	knownHosts string
	port       uint16
	extra      []string
}

func (o *sshOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVarP(&o.user, "username", "l", "", "user of the guest; that of USER@MACHINE, or of your ssh configuration, otherwise")
	flags.StringVarP(&o.identity, "identity-file", "i", "", "private key; those of your ssh agent and configuration otherwise")
	flags.StringVar(&o.knownHosts, "known-hosts", "", "file of the guests' keys; d8v_known_hosts beside those of ssh otherwise")
	flags.Uint16VarP(&o.port, "port", "p", 22, "port of the guest's ssh server")
	flags.StringArrayVarP(&o.extra, "local-ssh-opts", "t", nil, "an option for the program itself, such as -oForwardAgent=yes; may be repeated")
}

func (c *cli) newSSHCommand() *cobra.Command {
	var options sshOptions
	var remote string
	command := &cobra.Command{
		Use:   "ssh [USER@]MACHINE [-- COMMAND...]",
		Short: "Log in to a machine by ssh",
		Long: `Log in to a machine by the ssh that is installed here, through the cluster: the machine's
network need not be reachable.

MACHINE is ` + targetForms + `.`,
		Example: c.examples("ssh user@web", "ssh user@web.production -i ~/.ssh/key", "ssh user@web -- uname -a",
			"ssh user@web -t -oForwardAgent=yes"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: c.completeMachine,
		RunE: func(command *cobra.Command, args []string) error {
			user, key, err := c.guest(args[0], options.user)
			if err != nil {
				return err
			}
			tail := args[1:]
			if remote != "" {
				tail = append([]string{remote}, tail...)
			}
			arguments := append(options.arguments(c.proxyCommand(command, key, options.port), key, "-p"), destination(user, key))
			return c.run(command.Context(), "ssh", append(arguments, tail...))
		},
	}
	options.addFlags(command.Flags())
	command.Flags().StringVarP(&remote, "command", "c", "", "command to run in the guest instead of a shell")
	return command
}

func (c *cli) newSCPCommand() *cobra.Command {
	var options sshOptions
	var recursive, preserve bool
	command := &cobra.Command{
		Use:   "scp SOURCE... DESTINATION",
		Short: "Copy files to or from a machine by scp",
		Long: `Copy files to or from a machine by the scp that is installed here, through the cluster.
Files of the guest are [USER@]MACHINE:PATH.

MACHINE is ` + targetForms + `.`,
		Example:           c.examples("scp file user@web:", "scp -r user@web.production:/var/log ./logs"),
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: c.completeMachine,
		RunE: func(command *cobra.Command, args []string) error {
			key, paths, err := c.copyPaths(args, options.user)
			if err != nil {
				return err
			}
			arguments := options.arguments(c.proxyCommand(command, key, options.port), key, "-P")
			if recursive {
				arguments = append(arguments, "-r")
			}
			if preserve {
				arguments = append(arguments, "-p")
			}
			return c.run(command.Context(), "scp", append(append(arguments, "--"), paths...))
		},
	}
	options.addFlags(command.Flags())
	command.Flags().BoolVarP(&recursive, "recursive", "r", false, "copy folders with all they hold")
	command.Flags().BoolVar(&preserve, "preserve", false, "keep times and modes")
	return command
}

// guest takes [USER@]MACHINE to pieces.
func (c *cli) guest(argument, user string) (string, client.ObjectKey, error) {
	if at := strings.LastIndexByte(argument, '@'); at >= 0 {
		named := argument[:at]
		if user != "" && user != named {
			return "", client.ObjectKey{}, fmt.Errorf("the user is %s in %s and %s in --username: give one", named, argument, user)
		}
		user, argument = named, argument[at+1:]
	}
	if strings.HasPrefix(user, "-") {
		return "", client.ObjectKey{}, fmt.Errorf("%q is no user", user)
	}
	key, err := c.target(argument)
	return user, key, err
}

// copyPaths finds the machine among the arguments of scp, and writes them as scp
// wants them.
func (c *cli) copyPaths(args []string, user string) (client.ObjectKey, []string, error) {
	var machine client.ObjectKey
	var paths []string
	for _, argument := range args {
		host, path, remote := splitRemote(argument)
		if !remote {
			paths = append(paths, argument)
			continue
		}
		login, key, err := c.guest(host, user)
		if err != nil {
			return machine, nil, err
		}
		if machine.Name != "" && machine != key {
			return machine, nil, fmt.Errorf("%s and %s are two machines: copy from one to here and from here to the other", machine, key)
		}
		machine = key
		paths = append(paths, destination(login, key)+":"+path)
	}
	if machine.Name == "" {
		return machine, nil, errors.New("no argument names a machine: write its files as [USER@]MACHINE:PATH")
	}
	return machine, paths, nil
}

// splitRemote follows scp: a colon before any slash makes it remote, and so does one
// after a name with its kind.
func splitRemote(argument string) (host, path string, remote bool) {
	host, path, remote = strings.Cut(argument, ":")
	_, machine, _ := strings.Cut(host, "@")
	if machine == "" {
		machine = host
	}
	for _, prefix := range kindPrefixes {
		if strings.HasPrefix(machine, prefix) {
			return host, path, remote
		}
	}
	return host, path, remote && !strings.Contains(host, "/")
}

// hostName is what ssh calls the machine, in its messages and among known hosts.
func hostName(key client.ObjectKey) string { return key.Name + "." + key.Namespace }

func destination(user string, key client.ObjectKey) string {
	if user == "" {
		return hostName(key)
	}
	return user + "@" + hostName(key)
}

// arguments are those before the destination. A guest's key is believed the first time
// it is seen, as the way to it leads through the cluster, which knows both sides.
func (o *sshOptions) arguments(proxy string, key client.ObjectKey, portFlag string) []string {
	known := o.knownHosts
	if home, err := os.UserHomeDir(); known == "" && err == nil {
		known = filepath.Join(home, ".ssh", "d8v_known_hosts")
	}
	arguments := []string{
		"-oProxyCommand=" + proxy, "-oProxyUseFdpass=no", "-oHostKeyAlias=" + hostName(key), "-oCheckHostIP=no",
		"-oStrictHostKeyChecking=accept-new", portFlag, strconv.Itoa(int(o.port)),
	}
	if known != "" {
		arguments = append(arguments, "-oUserKnownHostsFile="+sshQuote(known))
	}
	if o.identity != "" {
		arguments = append(arguments, "-i", o.identity)
	}
	return append(arguments, o.extra...)
}

// sshQuote lets ssh read a value of an option as one word without tokens.
func sshQuote(value string) string {
	return `"` + strings.ReplaceAll(value, "%", "%%") + `"`
}

// proxyCommand is how ssh calls this program again, with the flags that chose the cluster.
func (c *cli) proxyCommand(command *cobra.Command, key client.ObjectKey, port uint16) string {
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	words := []string{program, "port-forward", "--stdio=true"}
	shared := command.Root().PersistentFlags()
	command.Flags().Visit(func(flag *pflag.Flag) {
		// The namespace is in the name of the machine.
		if shared.Lookup(flag.Name) == nil || flag.Name == "namespace" {
			return
		}
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			words = append(words, "--"+flag.Name+"="+value)
		}
	})
	words = append(words, hostName(key), strconv.Itoa(int(port)))
	for i, word := range words {
		words[i] = shellQuote(word)
	}
	return strings.Join(words, " ")
}

// shellQuote writes a word for the shell that ssh starts; "%" begins a token of ssh.
func shellQuote(word string) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./:,%") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// run starts a program of the system with this terminal, and ends as it does.
func (c *cli) run(ctx context.Context, program string, arguments []string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%w: install the client of OpenSSH", err)
	}
	command := exec.CommandContext(ctx, path, arguments...)
	command.Stdin, command.Stdout, command.Stderr = c.streams.In, c.streams.Out, c.streams.ErrOut
	err = command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s ended with status %d", program, exit.ExitCode())
	}
	return err
}
