/** @file A small hub on 127.0.0.1: the endpoints that fetching a model takes, with faults on request. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeRepo {
	readonly id: string;
	readonly commit: string;
	/** Contents by path. Those ending in .safetensors are stored as large files, named by their SHA-256. */
	readonly files: ReadonlyMap<string, Uint8Array>;
	/** Access token without which everything is refused. */
	readonly token?: string;
}

export interface FakeHub {
	readonly url: string;
	/** `path from` of each content request, in order (`from` is the first byte asked for); the probing of single bytes left out. */
	readonly requests: string[];
	/** Ends the connection of `path` at byte `at` of the file, this many times. */
	breakOff(path: string, at: number, times: number): void;
	/** Serves other bytes under `path` than it lists. */
	damage(path: string): void;
	/** Lists a path that it does not have. */
	invent(path: string): void;
	/** Answers content requests of `path` with this status, this many times. */
	refuse(path: string, status: number, times: number): void;
	close(): Promise<void>;
}

const sha1 = (data: Uint8Array) => createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex');
const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

/** Files of one page of a listing. */
const pageSize = 4;

export async function startHub(repo: FakeRepo): Promise<FakeHub> {
	const breaks = new Map<string, { at: number; times: number }>();
	const refusals = new Map<string, { status: number; times: number }>();
	const damaged = new Set<string>();
	const invented: string[] = [];
	const requests: string[] = [];

	const json = (response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}) => {
		response.writeHead(status, { 'content-type': 'application/json', ...headers });
		response.end(JSON.stringify(body));
	};

	const listing = (response: ServerResponse, query: URLSearchParams) => {
		const all = [
			...[...new Set([...repo.files.keys()].flatMap((p) => (p.includes('/') ? [p.slice(0, p.indexOf('/'))] : [])))].map((path) => ({
				type: 'directory',
				oid: '0'.repeat(40),
				size: 0,
				path,
			})),
			...[...repo.files].map(([path, data]) => ({
				type: 'file',
				oid: sha1(data),
				size: data.length,
				path,
				...(path.endsWith('.safetensors') ? { lfs: { oid: sha256(data), size: data.length, pointerSize: 130 } } : {}),
			})),
			...invented.map((path) => ({ type: 'file', oid: '1'.repeat(40), size: 3, path })),
		];
		const from = Number(query.get('cursor') ?? 0);
		const next = new URL(`${url}/api/models/${repo.id}/tree/${repo.commit}?recursive=true&cursor=${from + pageSize}`);
		json(response, 200, all.slice(from, from + pageSize), from + pageSize < all.length ? { link: `<${next.href}>; rel="next"` } : {});
	};

	const content = (request: IncomingMessage, response: ServerResponse, path: string) => {
		const data = repo.files.get(path);
		if (!data) return json(response, 404, { error: 'Entry not found' }, { 'x-error-code': 'EntryNotFound' });
		const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
		const [from, to] = range ? [Number(range[1]), Math.min(Number(range[2]), data.length - 1)] : [0, data.length - 1];
		const probe = range?.[2] === '0';
		if (!probe) requests.push(`${path} ${from}`);
		const refusal = refusals.get(path);
		if (refusal && refusal.times-- > 0) return json(response, refusal.status, { error: 'refused' });
		const sent = damaged.has(path) ? data.map((b) => b ^ 1) : data;
		const body = sent.subarray(from, to + 1);
		response.writeHead(range ? 206 : 200, {
			etag: `"${path.endsWith('.safetensors') ? sha256(data) : sha1(data)}"`,
			'content-length': body.length,
			...(range ? { 'content-range': `bytes ${from}-${to}/${data.length}` } : {}),
		});
		const cut = breaks.get(path);
		if (!probe && cut && cut.times-- > 0) response.write(body.subarray(0, Math.max(0, cut.at - from)), () => response.destroy());
		else response.end(body);
	};

	const server = createServer((request, response) => {
		const { pathname, searchParams } = new URL(request.url ?? '/', url);
		const at = decodeURIComponent(pathname);
		if (repo.token !== undefined && request.headers.authorization !== `Bearer ${repo.token}`) {
			return json(response, 401, { error: 'Access to model is restricted. You must be authenticated.' });
		}
		const api = `/api/models/${repo.id}`;
		const files = `/${repo.id}/resolve/${repo.commit}/`;
		const { id, commit } = repo;
		if (at === `${api}/revision/main` || at === `${api}/revision/${commit}`) return json(response, 200, { _id: '1', id, sha: commit });
		if (at === `${api}/tree/${commit}`) return listing(response, searchParams);
		if (at.startsWith(files)) return content(request, response, at.slice(files.length));
		json(response, 404, { error: at.startsWith(`${api}/revision`) ? 'Invalid rev id' : 'Repository not found' });
	});
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
	return {
		url,
		requests,
		breakOff: (path, at, times) => breaks.set(path, { at, times }),
		damage: (path) => damaged.add(path),
		invent: (path) => invented.push(path),
		refuse: (path, status, times) => refusals.set(path, { status, times }),
		async close() {
			server.closeAllConnections();
			await new Promise((resolve) => server.close(resolve));
		},
	};
}
