/** The tree of commands. Each is loaded when it is used. */

import { type Command, type Group, group } from "./_command.ts";

type Loaded = Promise<Command>;

const DESCRIPTION =
  "WalT VPN: distant boards become nodes of a WalT platform. A device (the board) opens an SSH tunnel through a proxy to the server; the virtual machine on it is the node";

const EXAMPLES = ["walt status", "walt vpn monitor", "walt node show", "walt doctor"] as const;

export const root = group("walt", DESCRIPTION, EXAMPLES, {
  status: async (): Loaded => (await import("./status.ts")).default,
  run: async (): Loaded => (await import("./run.ts")).default,
  web: async (): Loaded => (await import("./web.ts")).default,
  vpn: async (): Promise<Group> =>
    group(
      "walt vpn",
      "Set up proxies and devices; accept and revoke devices",
      ["walt vpn monitor", "walt vpn accept PG2WB-J9NS3 --name lab-3", "walt vpn revoke lab-3"],
      {
        "setup-proxy": async (): Loaded => (await import("./vpn/setup-proxy.ts")).default,
        "setup-node": async (): Loaded => (await import("./vpn/setup-node.ts")).default,
        monitor: async (): Loaded => (await import("./vpn/monitor.ts")).default,
        requests: async (): Loaded => (await import("./vpn/requests.ts")).default,
        accept: async (): Loaded => (await import("./vpn/accept.ts")).default,
        deny: async (): Loaded => (await import("./vpn/deny.ts")).default,
        block: async (): Promise<Group> =>
          group(
            "walt vpn block",
            "Keys and sources that monitors do not show: `block` in a monitor adds them",
            ["walt vpn block list", "walt vpn block lift PG2WB-J9NS3"],
            {
              list: async (): Loaded => (await import("./vpn/block/list.ts")).default,
              lift: async (): Loaded => (await import("./vpn/block/lift.ts")).default,
            },
          ),
        expect: async (): Loaded => (await import("./vpn/expect.ts")).default,
        token: async (): Promise<Group> =>
          group(
            "walt vpn token",
            "Tokens, by which devices are accepted without a question",
            ["walt vpn token add --uses 30 --expires 2d", "walt vpn token list"],
            {
              add: async (): Loaded => (await import("./vpn/token/add.ts")).default,
              list: async (): Loaded => (await import("./vpn/token/list.ts")).default,
              withdraw: async (): Loaded => (await import("./vpn/token/withdraw.ts")).default,
            },
          ),
        list: async (): Loaded => (await import("./vpn/list.ts")).default,
        events: async (): Loaded => (await import("./vpn/events.ts")).default,
        revoke: async (): Loaded => (await import("./vpn/revoke.ts")).default,
        restore: async (): Loaded => (await import("./vpn/restore.ts")).default,
        remove: async (): Loaded => (await import("./vpn/remove.ts")).default,
        rotate: async (): Loaded => (await import("./vpn/rotate.ts")).default,
      },
    ),
  node: async (): Promise<Group> =>
    group(
      "walt node",
      "Show the nodes, and use them",
      ["walt node show", "walt node show lab-3", "walt node run 'lab-*' -- uptime", "walt node reboot lab-3"],
      {
        show: async (): Loaded => (await import("./node/show.ts")).default,
        console: async (): Loaded => (await import("./node/console.ts")).default,
        log: async (): Loaded => (await import("./node/log.ts")).default,
        ping: async (): Loaded => (await import("./node/ping.ts")).default,
        set: async (): Loaded => (await import("./node/set.ts")).default,
        reboot: async (): Loaded => (await import("./node/reboot.ts")).default,
        run: async (): Loaded => (await import("./node/run.ts")).default,
        shell: async (): Loaded => (await import("./node/shell.ts")).default,
        cp: async (): Loaded => (await import("./node/cp.ts")).default,
        rename: async (): Loaded => (await import("./node/rename.ts")).default,
        board: async (): Loaded => (await import("./node/board.ts")).default,
        note: async (): Loaded => (await import("./node/note.ts")).default,
      },
    ),
  server: async (): Promise<Group> =>
    group(
      "walt server",
      "Run, install, back up or restore the server",
      ["sudo walt server install", "sudo systemctl enable --now walt-vpn"],
      {
        run: async (): Loaded => (await import("./server/run.ts")).default,
        install: async (): Loaded => (await import("./server/install.ts")).default,
        backup: async (): Loaded => (await import("./server/backup.ts")).default,
        restore: async (): Loaded => (await import("./server/restore.ts")).default,
        "snmp-relay": async (): Loaded => (await import("./server/snmp-relay.ts")).default,
      },
    ),
  proxy: async (): Promise<Group> =>
    group(
      "walt proxy",
      "Make this machine a proxy",
      ["walt proxy setup", "walt proxy run --config ./vpn.toml"],
      {
        setup: async (): Loaded => (await import("./proxy/setup.ts")).default,
        run: async (): Loaded => (await import("./proxy/run.ts")).default,
      },
    ),
  device: async (): Promise<Group> =>
    group("walt device", "Run this machine as a device", ["sudo walt device install", "walt device status"], {
      run: async (): Loaded => (await import("./device/run.ts")).default,
      install: async (): Loaded => (await import("./device/install.ts")).default,
      status: async (): Loaded => (await import("./device/status.ts")).default,
      console: async (): Loaded => (await import("./device/console.ts")).default,
      forget: async (): Loaded => (await import("./device/forget.ts")).default,
    }),
  image: async (): Promise<Group> =>
    group("walt image", "Build SD-card images, and images for nodes", ["walt image build"], {
      build: async (): Loaded => (await import("./image/build.ts")).default,
      recipe: async (): Loaded => (await import("./image/recipe.ts")).default,
    }),
  config: async (): Promise<Group> =>
    group("walt config", "Check or show vpn.toml", ["walt config check", "walt config show"], {
      check: async (): Loaded => (await import("./config/check.ts")).default,
      show: async (): Loaded => (await import("./config/show.ts")).default,
    }),
  doctor: async (): Loaded => (await import("./doctor.ts")).default,
  completion: async (): Loaded => (await import("./completion.ts")).default,
  help: async (): Loaded => (await import("./help.ts")).default,
  version: async (): Loaded => (await import("./version.ts")).default,
});
