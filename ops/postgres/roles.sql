-- A role for each service, with the rights that it needs and no more. To be run in the deployment's database by the
-- owner of its tables, who may create roles, after each `seckillctl db migrate`: as often as you like.
-- The owner is whom `seckillctl` signs in as: it migrates, rebuilds, repairs. The roles have no passwords yet:
-- `\password seckill_ingress` in psql.

DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['seckill_ingress', 'seckill_projector', 'seckill_timeout'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), role);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', current_schema(), role);
    END LOOP;
END $$;

-- At its start each looks whether the migrations that it needs were made.
GRANT SELECT ON _sqlx_migrations TO seckill_ingress, seckill_projector, seckill_timeout;

-- The ingress shows what there is, gives out voucher ids, and keeps the door. Orders, sales and stock are the log's:
-- it cannot write them here.
GRANT SELECT ON vouchers, orders, refunds, stock_adjustments, sale_reloads, view_positions, skipped_records,
    accepted_logs, sale_requests, voucher_ids, users, provider_users, user_id_key, sign_ins, revoked_sessions, ended_sessions,
    risk_rules, risk_version, consistency_findings TO seckill_ingress;
GRANT UPDATE ON voucher_ids TO seckill_ingress;
GRANT UPDATE (fate) ON skipped_records TO seckill_ingress;
-- What operators did to a sale; from where, and by whose login, the owner alone reads.
GRANT SELECT (id, at, actor, command, reason, voucher_id) ON ops_audit TO seckill_ingress;
GRANT INSERT ON sale_requests, ops_audit, users, provider_users TO seckill_ingress;
GRANT INSERT, DELETE ON sign_ins, revoked_sessions TO seckill_ingress;
GRANT INSERT, UPDATE, DELETE ON ended_sessions TO seckill_ingress;

-- The projector writes what the log says. Who buyers are is none of its business.
GRANT SELECT, INSERT, UPDATE ON vouchers, orders, refunds, stock_adjustments, sale_reloads, view_positions,
    skipped_records TO seckill_projector;
GRANT SELECT, UPDATE ON voucher_ids TO seckill_projector;
GRANT SELECT, INSERT ON expiries_not_before TO seckill_projector;
GRANT SELECT ON accepted_logs TO seckill_projector;
GRANT SELECT, INSERT, DELETE ON consistency_findings TO seckill_projector;

-- The timeout service looks for what is due, and notes whom it has claimed.
GRANT SELECT ON orders TO seckill_timeout;
GRANT SELECT, INSERT, UPDATE, DELETE ON expiry_claims TO seckill_timeout;
GRANT SELECT, DELETE ON expiries_not_before TO seckill_timeout;
