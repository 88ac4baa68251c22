BEGIN TRANSACTION;
CREATE TABLE adapters (
	tenant VARCHAR(63) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	next_number INTEGER NOT NULL, 
	create_time DATETIME NOT NULL, 
	PRIMARY KEY (tenant, name), 
	FOREIGN KEY(tenant) REFERENCES tenants (name)
);
INSERT INTO "adapters" VALUES('default','joe',3,'2026-11-27 02:04:35.853550');
INSERT INTO "adapters" VALUES('acme','joe',2,'2026-11-27 02:04:35.944901');
INSERT INTO "adapters" VALUES('default','amy',2,'2026-11-27 02:04:35.994968');
CREATE TABLE aliases (
	tenant VARCHAR(63) NOT NULL, 
	adapter VARCHAR(63) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	version_digest VARCHAR(71) NOT NULL, 
	weight_percent INTEGER NOT NULL, 
	etag VARCHAR(32) NOT NULL, 
	update_time DATETIME NOT NULL, 
	PRIMARY KEY (tenant, adapter, name), 
	CONSTRAINT aliases_version FOREIGN KEY(tenant, adapter, version_digest) REFERENCES versions (tenant, adapter, digest)
);
INSERT INTO "aliases" VALUES('default','joe','stable','sha256:b52c101f8291855820643abf8784e5dcdf5f3bd20281069a1b2b63ca36dff847',0,'327654a2bc97edb8','2026-11-27 02:04:36.039263');
INSERT INTO "aliases" VALUES('default','joe','canary','sha256:0b92770fa319268e9411d5fa7be65679554d3498c7e387cb555d4db910d4eea7',10,'c8bff00d74bcd63e','2026-11-27 02:04:36.112865');
CREATE TABLE bases (
	digest VARCHAR(71) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	weights_digest VARCHAR(71) NOT NULL, 
	tokenizer_digest VARCHAR(71) NOT NULL, 
	chat_template_digest VARCHAR(71), 
	path VARCHAR(4096) NOT NULL, 
	create_time DATETIME NOT NULL, config_digest VARCHAR(71), 
	PRIMARY KEY (digest)
);
INSERT INTO "bases" VALUES('sha256:8b69a6cbe9de53c7a588f5d3988bc8a577ac653b2aa2c689ad4bd08b59ddfb0c','basedir','sha256:008649455c048fec81e69a7db27fa101307d478f64081be7158cef61aa11323c','sha256:adccf0969e08598767521951f76054ea19be5f29eac010b768e240db18d56418','sha256:2f3f666573313d2b0849e1037ccb379ce3a75eb687eccf69f077257e055b93bd','/srv/bases/tiny','2026-11-27 02:04:35.840615','sha256:2b066a5961d93329f53898f14df72d2ecf810c408b89a53cccc443b6a6a7bdbc');
CREATE TABLE graft_adapters_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT graft_adapters_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "graft_adapters_version" VALUES('adapters_0002');
CREATE TABLE records (
	id INTEGER NOT NULL, 
	tenant VARCHAR(63) NOT NULL, 
	version_digest VARCHAR(71) NOT NULL, 
	kind VARCHAR(63) NOT NULL, 
	body JSON NOT NULL, 
	create_time DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(tenant) REFERENCES tenants (name)
);
INSERT INTO "records" VALUES(1,'default','sha256:b52c101f8291855820643abf8784e5dcdf5f3bd20281069a1b2b63ca36dff847','parity','{"mean": 0.1}','2026-11-27 02:04:36.148917');
CREATE TABLE requests (
	tenant VARCHAR(63) NOT NULL, 
	request_id VARCHAR(128) NOT NULL, 
	fingerprint VARCHAR(71) NOT NULL, 
	answer JSON NOT NULL, 
	create_time DATETIME NOT NULL, 
	PRIMARY KEY (tenant, request_id), 
	FOREIGN KEY(tenant) REFERENCES tenants (name)
);
INSERT INTO "requests" VALUES('default','r-default-joe-a','sha256:00131e6b519b9bfe111c82dfaa2e74a9a8018e086355e6ba66e8ea86b454bee6','{"digest": "sha256:b52c101f8291855820643abf8784e5dcdf5f3bd20281069a1b2b63ca36dff847"}','2026-11-27 02:04:35.853550');
INSERT INTO "requests" VALUES('default','r-default-joe-b','sha256:2cf8e7687fe6a21b561a05cb96948be2e772eb61114e77a4e984882bd573fcd1','{"digest": "sha256:0b92770fa319268e9411d5fa7be65679554d3498c7e387cb555d4db910d4eea7"}','2026-11-27 02:04:35.896872');
INSERT INTO "requests" VALUES('acme','r-acme-joe-a','sha256:00131e6b519b9bfe111c82dfaa2e74a9a8018e086355e6ba66e8ea86b454bee6','{"digest": "sha256:b52c101f8291855820643abf8784e5dcdf5f3bd20281069a1b2b63ca36dff847"}','2026-11-27 02:04:35.944901');
INSERT INTO "requests" VALUES('default','r-default-amy-c','sha256:5715681c472ae2bde13168c379282ef427065f19615a16cd0136939aba31936f','{"digest": "sha256:f8cea762776b4656a6679ea9ccb4b712c791dea801b8f858039b22eac7746cba"}','2026-11-27 02:04:35.994968');
CREATE TABLE tenants (
	name VARCHAR(63) NOT NULL, 
	create_time DATETIME NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "tenants" VALUES('default','2026-11-27 02:04:35.803270');
INSERT INTO "tenants" VALUES('acme','2026-11-27 02:04:35.832823');
CREATE TABLE versions (
	tenant VARCHAR(63) NOT NULL, 
	adapter VARCHAR(63) NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	number INTEGER NOT NULL, 
	base JSON NOT NULL, 
	form VARCHAR(16) NOT NULL, 
	rank INTEGER NOT NULL, 
	alpha FLOAT NOT NULL, 
	target_modules JSON NOT NULL, 
	files JSON NOT NULL, 
	provenance VARCHAR(16) NOT NULL, 
	lineage JSON NOT NULL, 
	create_time DATETIME NOT NULL, 
	PRIMARY KEY (tenant, adapter, digest), 
	CONSTRAINT versions_adapter FOREIGN KEY(tenant, adapter) REFERENCES adapters (tenant, name), 
	CONSTRAINT versions_number UNIQUE (tenant, adapter, number)
);
INSERT INTO "versions" VALUES('default','joe','sha256:b52c101f8291855820643abf8784e5dcdf5f3bd20281069a1b2b63ca36dff847',1,'{"digest": "sha256:8b69a6cbe9de53c7a588f5d3988bc8a577ac653b2aa2c689ad4bd08b59ddfb0c", "weights_digest": "sha256:008649455c048fec81e69a7db27fa101307d478f64081be7158cef61aa11323c", "tokenizer_digest": "sha256:adccf0969e08598767521951f76054ea19be5f29eac010b768e240db18d56418", "chat_template_digest": "sha256:2f3f666573313d2b0849e1037ccb379ce3a75eb687eccf69f077257e055b93bd", "name": "basedir", "config_digest": "sha256:2b066a5961d93329f53898f14df72d2ecf810c408b89a53cccc443b6a6a7bdbc"}','nf4',8,16.0,'["q_proj"]','[{"name": "adapter_model.safetensors", "size_bytes": 3, "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]','trained','{"job": "jobs/1", "data_digest": "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "code_version": "0.1.0", "seed": 7}','2026-11-27 02:04:35.853550');
INSERT INTO "versions" VALUES('default','joe','sha256:0b92770fa319268e9411d5fa7be65679554d3498c7e387cb555d4db910d4eea7',2,'{"digest": "sha256:8b69a6cbe9de53c7a588f5d3988bc8a577ac653b2aa2c689ad4bd08b59ddfb0c", "weights_digest": "sha256:008649455c048fec81e69a7db27fa101307d478f64081be7158cef61aa11323c", "tokenizer_digest": "sha256:adccf0969e08598767521951f76054ea19be5f29eac010b768e240db18d56418", "chat_template_digest": "sha256:2f3f666573313d2b0849e1037ccb379ce3a75eb687eccf69f077257e055b93bd", "name": "basedir", "config_digest": "sha256:2b066a5961d93329f53898f14df72d2ecf810c408b89a53cccc443b6a6a7bdbc"}','nf4',8,16.0,'["q_proj"]','[{"name": "adapter_model.safetensors", "size_bytes": 3, "sha256": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}]','trained','{"job": "jobs/1", "data_digest": "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "code_version": "0.1.0", "seed": 7}','2026-11-27 02:04:35.896872');
INSERT INTO "versions" VALUES('acme','joe','sha256:b52c101f8291855820643abf8784e5dcdf5f3bd20281069a1b2b63ca36dff847',1,'{"digest": "sha256:8b69a6cbe9de53c7a588f5d3988bc8a577ac653b2aa2c689ad4bd08b59ddfb0c", "weights_digest": "sha256:008649455c048fec81e69a7db27fa101307d478f64081be7158cef61aa11323c", "tokenizer_digest": "sha256:adccf0969e08598767521951f76054ea19be5f29eac010b768e240db18d56418", "chat_template_digest": "sha256:2f3f666573313d2b0849e1037ccb379ce3a75eb687eccf69f077257e055b93bd", "name": "basedir", "config_digest": "sha256:2b066a5961d93329f53898f14df72d2ecf810c408b89a53cccc443b6a6a7bdbc"}','nf4',8,16.0,'["q_proj"]','[{"name": "adapter_model.safetensors", "size_bytes": 3, "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]','trained','{"job": "jobs/1", "data_digest": "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "code_version": "0.1.0", "seed": 7}','2026-11-27 02:04:35.944901');
INSERT INTO "versions" VALUES('default','amy','sha256:f8cea762776b4656a6679ea9ccb4b712c791dea801b8f858039b22eac7746cba',1,'{"digest": "sha256:8b69a6cbe9de53c7a588f5d3988bc8a577ac653b2aa2c689ad4bd08b59ddfb0c", "weights_digest": "sha256:008649455c048fec81e69a7db27fa101307d478f64081be7158cef61aa11323c", "tokenizer_digest": "sha256:adccf0969e08598767521951f76054ea19be5f29eac010b768e240db18d56418", "chat_template_digest": "sha256:2f3f666573313d2b0849e1037ccb379ce3a75eb687eccf69f077257e055b93bd", "name": "basedir", "config_digest": "sha256:2b066a5961d93329f53898f14df72d2ecf810c408b89a53cccc443b6a6a7bdbc"}','nf4',8,16.0,'["q_proj"]','[{"name": "adapter_model.safetensors", "size_bytes": 3, "sha256": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"}]','trained','{"job": "jobs/1", "data_digest": "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "code_version": "0.1.0", "seed": 7}','2026-11-27 02:04:35.994968');
CREATE INDEX ix_bases_name ON bases (name);
CREATE INDEX records_version ON records (tenant, version_digest);
COMMIT;
