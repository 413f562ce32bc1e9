VACUUM FULL "shop"."orders";
VACUUM DELETE ONLY "shop"."orders";
VACUUM SORT ONLY "shop"."orders";
VACUUM RECLUSTER "shop"."orders";
ANALYZE "shop"."orders";
